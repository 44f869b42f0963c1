-- When members who had opted out came back: what they reacted until then, which Discord still shows, never counts.
CREATE TABLE optins (
    member_id   INTEGER PRIMARY KEY,
    opted_in_at REAL NOT NULL
) STRICT;
