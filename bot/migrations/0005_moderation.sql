-- The moderators' queue, whom the bot doesn't answer, and what it must never learn. Who decided is the audit's to say.

-- AUTOINCREMENT: buttons in old Discord messages carry case ids, so an id is never given out twice.
CREATE TABLE cases (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    guild_id        INTEGER NOT NULL,
    source          TEXT NOT NULL,
    channel_id      INTEGER NOT NULL,
    message_id      INTEGER NOT NULL,  -- what was reported; 0: Discord let nobody see it
    reply_id        INTEGER REFERENCES replies (id) ON DELETE CASCADE,  -- its text is there, and goes with it
    subject_id      INTEGER NOT NULL,  -- whose message it was, or who asked for the reply; 0: nobody's, or nobody to name
    quote           TEXT NOT NULL,     -- what a message without a reply said
    reports         INTEGER NOT NULL DEFAULT 0,
    opened_at       REAL NOT NULL,
    card_channel_id INTEGER,           -- where the case stands in the moderators' channel
    card_message_id INTEGER,
    decision        TEXT,
    decided_by      INTEGER,
    decided_at      REAL
) STRICT;

CREATE UNIQUE INDEX one_open_case_a_reply ON cases (reply_id) WHERE decided_at IS NULL AND reply_id IS NOT NULL;
CREATE INDEX cases_by_guild ON cases (guild_id, decided_at, id);
CREATE INDEX cases_by_reply ON cases (reply_id) WHERE reply_id IS NOT NULL;
CREATE INDEX cases_by_subject ON cases (subject_id);

CREATE TABLE reports (
    case_id     INTEGER NOT NULL REFERENCES cases (id) ON DELETE CASCADE,
    member_id   INTEGER NOT NULL,
    reason      TEXT NOT NULL,
    reported_at REAL NOT NULL,
    PRIMARY KEY (case_id, member_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX reports_by_member ON reports (member_id);

-- What members who opted out report is counted by its case, and nothing of them is kept.
CREATE TRIGGER no_report_of_optouts BEFORE INSERT ON reports
WHEN NEW.member_id IN (SELECT member_id FROM optouts) BEGIN SELECT RAISE(IGNORE); END;

CREATE TABLE mutes (
    guild_id  INTEGER NOT NULL,
    member_id INTEGER NOT NULL,
    until     REAL,  -- NULL: until a moderator ends it
    PRIMARY KEY (guild_id, member_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE never_learn (
    reply_id  INTEGER PRIMARY KEY REFERENCES replies (id) ON DELETE CASCADE,
    marked_at REAL NOT NULL
) STRICT;
