-- Replies, the messages that show them, their ratings, and what moderators set.
-- guild_id 0 stands for direct messages. Times are UTC seconds since the epoch.

PRAGMA application_id = 1164862322;  -- "Encr": tells a backup of Encore from any other SQLite file

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE guild_settings (
    guild_id INTEGER NOT NULL,
    name     TEXT NOT NULL,
    value    TEXT NOT NULL,  -- JSON; a name without a row has the default of bot.records
    PRIMARY KEY (guild_id, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE free_channels (
    guild_id   INTEGER NOT NULL,
    channel_id INTEGER NOT NULL,
    PRIMARY KEY (guild_id, channel_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    guild_id   INTEGER NOT NULL,
    actor_id   INTEGER NOT NULL,
    action     TEXT NOT NULL,
    detail     TEXT NOT NULL,  -- JSON object
    created_at REAL NOT NULL
) STRICT;

CREATE INDEX audit_by_guild ON audit (guild_id, id);

-- AUTOINCREMENT: buttons in old Discord messages carry reply ids, so an id is never given out twice.
-- The wide columns come last, so that reading the narrow ones touches no overflow page.
CREATE TABLE replies (
    id                       INTEGER PRIMARY KEY AUTOINCREMENT,
    asked_message_id         INTEGER NOT NULL,
    variant                  INTEGER NOT NULL CHECK (variant >= 0),
    channel_id               INTEGER NOT NULL,
    guild_id                 INTEGER NOT NULL,
    member_id                INTEGER NOT NULL,
    provenance               TEXT NOT NULL CHECK (provenance IN ('discord', 'operator', 'demo', 'import')),
    continues_reply_id       INTEGER REFERENCES replies (id) ON DELETE SET NULL,
    state                    TEXT NOT NULL DEFAULT 'waiting'
        CHECK (state IN ('waiting', 'streaming', 'done', 'stopped', 'failed', 'interrupted')),
    created_at               REAL NOT NULL,
    started_at               REAL,  -- when the recipe was known
    finished_at              REAL,
    -- the recipe, all set together by the start of the generation
    prompt_version           INTEGER,
    system_sha256            TEXT,
    dropped_messages         INTEGER,
    model                    TEXT,
    model_sha256             TEXT,
    adapter                  TEXT,
    sampling                 TEXT,  -- JSON object
    seed                     INTEGER,
    -- the outcome, all set together when the reply is finished
    finish_reason            TEXT,
    cached_tokens            INTEGER,
    queue_milliseconds       REAL,
    first_token_milliseconds REAL,
    total_milliseconds       REAL,
    -- the wide columns
    prompt_message_ids       TEXT,  -- JSON array, oldest first
    prompt_member_ids        TEXT,  -- JSON array
    completion               TEXT,  -- raw, hidden reasoning included
    prompt_token_ids         BLOB,  -- little-endian uint32
    completion_token_ids     BLOB,  -- little-endian uint32
    UNIQUE (asked_message_id, variant)
) STRICT;

CREATE INDEX replies_by_guild ON replies (guild_id);
CREATE INDEX replies_by_time ON replies (created_at);
CREATE INDEX replies_unfinished ON replies (id) WHERE finished_at IS NULL;
CREATE INDEX replies_by_continued ON replies (continues_reply_id) WHERE continues_reply_id IS NOT NULL;

CREATE TABLE reply_messages (
    message_id INTEGER PRIMARY KEY,
    reply_id   INTEGER NOT NULL REFERENCES replies (id) ON DELETE CASCADE,
    part       INTEGER NOT NULL CHECK (part >= 0)
) STRICT;

CREATE INDEX reply_messages_by_reply ON reply_messages (reply_id, part);

-- Every signal that still stands. message_id is the reacted message (0: no message, such as a button), so that the same
-- emoji on two messages of one reply are two signals. `seq` is the order of time, whatever the clock does. One tree and
-- no index: a reaction then dirties one page, and a flood of them writes a third of the log that it otherwise would.
CREATE TABLE ratings (
    reply_id   INTEGER NOT NULL REFERENCES replies (id) ON DELETE CASCADE,
    member_id  INTEGER NOT NULL,
    message_id INTEGER NOT NULL,
    source     TEXT NOT NULL,
    value      REAL NOT NULL,
    rated_at   REAL NOT NULL,
    seq        INTEGER NOT NULL,
    PRIMARY KEY (reply_id, member_id, message_id, source)
) STRICT, WITHOUT ROWID;

-- One vote a member and reply by construction: the newest signal that still stands.
CREATE VIEW votes AS
SELECT reply_id, member_id, source, value, rated_at
FROM ratings
WHERE seq = (
    SELECT max(newer.seq) FROM ratings AS newer
    WHERE newer.reply_id = ratings.reply_id AND newer.member_id = ratings.member_id
);

-- Inserting into this view applies one raw reaction event, so that a group of them, whatever their kinds, is a single
-- statement and its own transaction. Events on messages that show no reply change nothing.
CREATE VIEW reaction_events AS
SELECT NULL AS kind, NULL AS message_id, NULL AS member_id, NULL AS emoji, NULL AS value, NULL AS rated_at, NULL AS seq
WHERE 0;

CREATE TRIGGER reaction_added INSTEAD OF INSERT ON reaction_events WHEN NEW.kind = 'add'
BEGIN
    INSERT OR REPLACE INTO ratings (reply_id, member_id, message_id, source, value, rated_at, seq)
    SELECT reply_id, NEW.member_id, message_id, 'reaction:' || NEW.emoji, NEW.value, NEW.rated_at, NEW.seq
    FROM reply_messages WHERE message_id = NEW.message_id;
END;

CREATE TRIGGER reaction_removed INSTEAD OF INSERT ON reaction_events WHEN NEW.kind = 'remove'
BEGIN
    DELETE FROM ratings
    WHERE reply_id = (SELECT reply_id FROM reply_messages WHERE message_id = NEW.message_id)
        AND member_id = NEW.member_id AND message_id = NEW.message_id AND source = 'reaction:' || NEW.emoji;
END;

CREATE TRIGGER reactions_cleared INSTEAD OF INSERT ON reaction_events WHEN NEW.kind = 'clear'
BEGIN
    DELETE FROM ratings
    WHERE reply_id = (SELECT reply_id FROM reply_messages WHERE message_id = NEW.message_id)
        AND message_id = NEW.message_id;
END;

CREATE TRIGGER emoji_cleared INSTEAD OF INSERT ON reaction_events WHEN NEW.kind = 'clear_emoji'
BEGIN
    DELETE FROM ratings
    WHERE reply_id = (SELECT reply_id FROM reply_messages WHERE message_id = NEW.message_id)
        AND message_id = NEW.message_id AND source = 'reaction:' || NEW.emoji;
END;
