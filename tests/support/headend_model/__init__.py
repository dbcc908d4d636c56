"""What the pages promise of the headend and its cards, in dictionaries and plain loops: the judge of the whole headend.

Written from docs/portal.md, docs/notices.md, docs/card.md and docs/emm.md. It shares no code with the packages under
test. `headend` is the model; of what it is made, subject by subject: `cards`, `offers`, `subscriptions`, `messages`
take the commands on the `state`, `content` says what an EMM opens, `card` is a card that hears what is on the air.
"""
