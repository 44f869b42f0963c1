-- What members and channels used of their budgets on their last day (days since 1970-01-01 UTC): a restart refills none.

CREATE TABLE member_usage (
    guild_id  INTEGER NOT NULL,
    member_id INTEGER NOT NULL,
    day       INTEGER NOT NULL,
    messages  INTEGER NOT NULL,
    tokens    INTEGER NOT NULL,
    PRIMARY KEY (guild_id, member_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX member_usage_by_member ON member_usage (member_id);

CREATE TRIGGER no_usage_of_optouts BEFORE INSERT ON member_usage
WHEN NEW.member_id IN (SELECT member_id FROM optouts) BEGIN SELECT RAISE(IGNORE); END;

CREATE TABLE channel_usage (
    guild_id   INTEGER NOT NULL,
    channel_id INTEGER NOT NULL,
    day        INTEGER NOT NULL,
    messages   INTEGER NOT NULL,
    tokens     INTEGER NOT NULL,
    PRIMARY KEY (guild_id, channel_id)
) STRICT, WITHOUT ROWID;
