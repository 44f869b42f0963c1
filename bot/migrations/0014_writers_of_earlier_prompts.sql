-- Servers' system prompts from before version 9 are somebody's words as well: of whom, the audit knows. 0: nobody does,
-- so nobody can agree.
INSERT OR IGNORE INTO server_prompts (sha256, member_id)
SELECT sha256(json_extract(detail, '$.system_prompt[1]')),
    iif(actor_id IN (SELECT member_id FROM deletions WHERE requested_at >= created_at), 0, actor_id)
FROM audit WHERE action = 'settings' AND json_extract(detail, '$.system_prompt[1]') <> '';

INSERT OR IGNORE INTO server_prompts (sha256, member_id)
SELECT told.sha256, 0 FROM (
    SELECT sha256(json_extract(value, '$')) AS sha256 FROM guild_settings
    WHERE name = 'system_prompt' AND json_extract(value, '$') <> ''
    UNION SELECT sha256(json_extract(detail, '$.system_prompt[0]')) FROM audit
    WHERE action = 'settings' AND json_extract(detail, '$.system_prompt[0]') <> ''
) AS told WHERE told.sha256 NOT IN (SELECT sha256 FROM server_prompts);

-- What was answered under a prompt that is known no more, in a server that had its own, teaches nothing either. The
-- operator's prompt is known by where only that can have stood.
INSERT OR IGNORE INTO never_learn (reply_id, marked_at)
SELECT id, created_at FROM replies
WHERE provenance IN ('discord', 'demo')
    AND guild_id IN (SELECT guild_id FROM guild_settings WHERE name = 'system_prompt')
    AND system_sha256 NOT IN (SELECT sha256 FROM server_prompts)
    AND system_sha256 NOT IN (
        SELECT system_sha256 FROM replies
        WHERE system_sha256 IS NOT NULL AND (provenance = 'operator' OR (provenance IN ('discord', 'demo')
            AND guild_id NOT IN (SELECT guild_id FROM guild_settings WHERE name = 'system_prompt')))
    );
