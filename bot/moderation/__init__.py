"""Rules about text: what members may write to the character and what it may say. No Discord, no model, no store.

A message goes through `check_message(text, policy)` before the model sees it; the strongest action of its findings,
`strongest(findings, policy.messages)`, decides. An answer goes through one `OutputGuard(policy, *system_prompts)`:
`feed` is given the whole text so far and returns what of it may be shown now, `finish` returns the verdict. A `Policy`
says per category what to do; `default_policy` has one for each kind of channel, with the server's `Blocklist` and
`Patterns`. Rates and quotas are counted in `limits`, apart from the text.

    findings    Finding, Category, Action, Policy: the words everything else speaks in
    normalise   a text without its disguises, and where each character of it stood
    readings    leetspeak, repeated and parted letters of a word
    blocklist   words and phrases
    patterns    moderators' regular expressions, under a time limit
    disclosure  personal data, secrets
    links       links and hosts that are not allowed
    leak        the system prompt, word for word
    injection   attempts to talk the model out of its role
    advice      medical, legal, financial matters; crises
    check       all of that on a member's message
    guard       all of that on an answer that still grows
    limits      rates, quotas, token budgets, slow-down
"""
