"""Templates: what people are told, in Kazakh, Russian and English; docs/words.md is for who writes them.

Texts stand in gettext catalogs (`locale/`). A template has a `subject`, a `body`, and a `short` form that fits two text
messages, some a `short_link` that takes its place when there is a link. Those that the protected person reads bear no
fact but a code; the warning that the other one reads bears none at all.
"""
