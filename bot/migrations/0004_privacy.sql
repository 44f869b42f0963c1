-- Who agreed that their words and ratings teach, who wants nothing kept, and which deletions this file has been through.

-- One bot has one adapter, so a member's consent is one for all servers.
CREATE TABLE consents (
    member_id    INTEGER PRIMARY KEY,
    given_at     REAL,  -- NULL: never given, but refused
    withdrawn_at REAL,
    CHECK (given_at IS NOT NULL OR withdrawn_at IS NOT NULL)
) STRICT;

CREATE TABLE optouts (
    member_id    INTEGER PRIMARY KEY,
    opted_out_at REAL NOT NULL
) STRICT;

-- Whose words and ratings may teach where consent is needed, and whose may teach nowhere.
CREATE VIEW consenting AS
SELECT member_id FROM consents
WHERE withdrawn_at IS NULL AND member_id NOT IN (SELECT member_id FROM optouts);

CREATE VIEW refusing AS
SELECT member_id FROM consents WHERE withdrawn_at IS NOT NULL UNION SELECT member_id FROM optouts;

-- Nothing of members who opted out is written, whichever way it comes: what would be is passed over in silence.
CREATE TRIGGER no_reply_to_optouts BEFORE INSERT ON replies
WHEN NEW.member_id IN (SELECT member_id FROM optouts) BEGIN SELECT RAISE(IGNORE); END;

CREATE TRIGGER no_rating_of_optouts BEFORE INSERT ON ratings
WHEN NEW.member_id IN (SELECT member_id FROM optouts) BEGIN SELECT RAISE(IGNORE); END;

CREATE TRIGGER no_comparison_of_optouts BEFORE INSERT ON comparisons
WHEN NEW.member_id IN (SELECT member_id FROM optouts) BEGIN SELECT RAISE(IGNORE); END;

CREATE TRIGGER no_correction_of_optouts BEFORE INSERT ON corrections
WHEN NEW.member_id IN (SELECT member_id FROM optouts) BEGIN SELECT RAISE(IGNORE); END;

CREATE TRIGGER no_facts_of_optouts BEFORE INSERT ON raters
WHEN NEW.member_id IN (SELECT member_id FROM optouts) AND NEW.banned = 0 BEGIN SELECT RAISE(IGNORE); END;

-- The journal of deletions is a file beside the database, which outlives a restore; this says what of it was done here.
CREATE TABLE deletions (
    id           TEXT PRIMARY KEY,
    member_id    INTEGER NOT NULL,
    requested_at REAL NOT NULL,
    finished_at  REAL  -- NULL: the rows are gone, but files or adapters may still be there
) STRICT;

CREATE INDEX deletions_by_member ON deletions (member_id);
CREATE INDEX replies_by_member ON replies (member_id);
