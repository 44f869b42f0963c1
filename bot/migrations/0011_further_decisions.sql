-- What moderators did about a case after the decision that closed it, in that order; JSON array. Who: the audit says.
ALTER TABLE cases ADD COLUMN further TEXT NOT NULL DEFAULT '[]';

-- What was deleted teaches nothing any more, nor does what read it or a reply that must not be learned from.
INSERT OR IGNORE INTO never_learn (reply_id, marked_at)
    SELECT reply_id, decided_at FROM cases WHERE decision = 'delete' AND reply_id IS NOT NULL;
INSERT OR IGNORE INTO never_learn_messages (message_id, marked_at)
    SELECT reply_messages.message_id, decided_at FROM cases JOIN reply_messages USING (reply_id)
        WHERE decision IN ('delete', 'unlearn')
    UNION ALL SELECT message_id, decided_at FROM cases
        WHERE decision = 'delete' AND reply_id IS NULL AND message_id <> 0;
