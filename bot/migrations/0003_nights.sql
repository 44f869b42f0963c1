-- What nights learn from and what came of them: arms, labels, raters, the operator's prompts, the rating rooms, nights.

-- Which conversation a reply belongs to and, while a canary runs, the arm that answered. A table of its own: columns
-- added to `replies` would stand behind its wide ones.
CREATE TABLE arms (
    reply_id     INTEGER PRIMARY KEY REFERENCES replies (id) ON DELETE CASCADE,
    conversation TEXT NOT NULL,
    canary       TEXT,  -- the adapter under test; NULL: no canary ran
    arm          TEXT CHECK (arm IN ('candidate', 'incumbent')),
    propensity   REAL CHECK (propensity > 0 AND propensity <= 1),  -- with which it came to this arm
    CHECK ((canary IS NULL) = (arm IS NULL) AND (arm IS NULL) = (propensity IS NULL))
) STRICT;

CREATE INDEX arms_by_canary ON arms (canary) WHERE canary IS NOT NULL;

-- Replies that a moderator (or an imported file) called good or bad.
CREATE TABLE gold (
    reply_id    INTEGER PRIMARY KEY REFERENCES replies (id) ON DELETE CASCADE,
    good        INTEGER NOT NULL CHECK (good IN (0, 1)),
    actor_id    INTEGER NOT NULL,
    labelled_at REAL NOT NULL
) STRICT;

-- What is known of a rater beside the votes. Trust holds for the votes of one server only, so that the moderator of a
-- second server is no moderator here.
CREATE TABLE raters (
    guild_id  INTEGER NOT NULL,
    member_id INTEGER NOT NULL,
    trusted   INTEGER NOT NULL DEFAULT 0 CHECK (trusted IN (0, 1)),
    banned    INTEGER NOT NULL DEFAULT 0 CHECK (banned IN (0, 1)),
    joined_at REAL,
    PRIMARY KEY (guild_id, member_id)
) STRICT, WITHOUT ROWID;

-- Prompts that the operator brought: no text of Discord's. The bot answers them in the rating rooms.
CREATE TABLE operator_prompts (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    text       TEXT NOT NULL UNIQUE,
    language   TEXT NOT NULL DEFAULT '',
    created_at REAL NOT NULL,
    used_at    REAL,  -- when it was posted last
    uses       INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX operator_prompts_by_use ON operator_prompts (uses, id);

CREATE TABLE rooms (
    guild_id         INTEGER PRIMARY KEY,
    channel_id       INTEGER NOT NULL,
    interval_seconds REAL NOT NULL CHECK (interval_seconds > 0),
    started_by       INTEGER NOT NULL,
    started_at       REAL NOT NULL,
    posted_at        REAL  -- when the last prompt was posted
) STRICT;

CREATE TABLE nights (
    id                  TEXT PRIMARY KEY,  -- local date of the start, with -2, -3 ... for further ones: its folder
    cause               TEXT NOT NULL CHECK (cause IN ('schedule', 'moderator', 'command', 'demo')),
    actor_id            INTEGER,  -- the moderator who asked for it
    state               TEXT NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'finished', 'failed')),
    started_at          REAL NOT NULL,
    finished_at         REAL,
    attempts            INTEGER NOT NULL DEFAULT 1,
    outcome             TEXT CHECK (outcome IN ('promoted', 'rejected', 'insufficient', 'retracted')),
    adapter             TEXT,  -- what it made and installed, promoted or not
    more_ratings_needed INTEGER,
    sentences           TEXT NOT NULL DEFAULT '[]',  -- JSON array
    warnings            TEXT NOT NULL DEFAULT '[]',  -- JSON array
    figures             TEXT NOT NULL DEFAULT '{}',  -- JSON object
    CHECK ((state = 'finished') = (outcome IS NOT NULL))
) STRICT;

CREATE UNIQUE INDEX nights_running ON nights (state) WHERE state = 'running';
CREATE INDEX nights_by_start ON nights (started_at);

-- A night reads what it may learn from, which in most stores is a small part.
CREATE INDEX replies_learnable ON replies (provenance, id) WHERE provenance <> 'discord';
