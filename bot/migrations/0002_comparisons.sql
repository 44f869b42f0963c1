-- Which of two versions is better, and what a reply should have said.

-- The smaller reply id is always reply_a, so that a member has one opinion of a pair however it was shown.
CREATE TABLE comparisons (
    reply_a     INTEGER NOT NULL REFERENCES replies (id) ON DELETE CASCADE,
    reply_b     INTEGER NOT NULL REFERENCES replies (id) ON DELETE CASCADE,
    member_id   INTEGER NOT NULL,
    preference  TEXT NOT NULL CHECK (preference IN ('a', 'b', 'both', 'neither')),
    compared_at REAL NOT NULL,
    PRIMARY KEY (reply_a, reply_b, member_id),
    CHECK (reply_a < reply_b)
) STRICT, WITHOUT ROWID;

CREATE INDEX comparisons_by_second ON comparisons (reply_b);

CREATE TABLE corrections (
    reply_id         INTEGER NOT NULL REFERENCES replies (id) ON DELETE CASCADE,
    member_id        INTEGER NOT NULL,
    reasons          TEXT NOT NULL,  -- JSON array
    comment          TEXT NOT NULL,
    should_have_said TEXT NOT NULL,
    corrected_at     REAL NOT NULL,
    PRIMARY KEY (reply_id, member_id)
) STRICT;
