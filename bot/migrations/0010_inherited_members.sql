-- Which of prompt_member_ids came through an earlier answer alone, and aren't passed on to who reads this one; JSON
-- array. Of the rows from before nobody knows, so all their members are passed on.
ALTER TABLE replies ADD COLUMN inherited_member_ids TEXT NOT NULL DEFAULT '[]';
