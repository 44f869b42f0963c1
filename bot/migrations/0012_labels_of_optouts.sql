-- Nor is a moderator's label kept once they opted out.
DELETE FROM gold WHERE EXISTS (SELECT 1 FROM optouts WHERE member_id = actor_id AND opted_out_at <= labelled_at);

CREATE TRIGGER no_gold_of_optouts BEFORE INSERT ON gold
WHEN NEW.actor_id IN (SELECT member_id FROM optouts) BEGIN SELECT RAISE(IGNORE); END;
