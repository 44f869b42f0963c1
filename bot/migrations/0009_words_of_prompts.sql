-- Messages that nothing which read them may be learned from, whenever it did.
CREATE TABLE never_learn_messages (
    message_id INTEGER PRIMARY KEY,
    marked_at  REAL NOT NULL
) STRICT;

-- Who wrote the system prompts of servers: their words are in every prompt there. 0: somebody whose data was deleted.
CREATE TABLE server_prompts (
    sha256    TEXT NOT NULL,
    member_id INTEGER NOT NULL,
    PRIMARY KEY (sha256, member_id)
) STRICT, WITHOUT ROWID;
