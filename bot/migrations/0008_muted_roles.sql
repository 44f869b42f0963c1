-- Roles whose members the bot doesn't answer.

CREATE TABLE muted_roles (
    guild_id INTEGER NOT NULL,
    role_id  INTEGER NOT NULL,
    until    REAL,  -- NULL: until a moderator ends it
    PRIMARY KEY (guild_id, role_id)
) STRICT, WITHOUT ROWID;
