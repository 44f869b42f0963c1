-- What moderators said of trusting a rater in their server. NULL: nothing, so that `trusted` (whether they moderate)
-- holds.

ALTER TABLE raters ADD COLUMN trust_given INTEGER CHECK (trust_given IN (0, 1));

-- Who was distrusted before they opted out isn't trusted again after they come back.
DROP TRIGGER no_facts_of_optouts;
CREATE TRIGGER no_facts_of_optouts BEFORE INSERT ON raters
WHEN NEW.member_id IN (SELECT member_id FROM optouts) AND NEW.banned = 0 AND NEW.trust_given IS NOT 0
BEGIN SELECT RAISE(IGNORE); END;
