"""Templates: what people are told, in Kazakh, Russian and English.

One TOML file a language, the same keys in each. A template has a `subject`, a `body` and a `short` form that fits two
text messages; a test renders all of them for every type of incident. `incident_victim`, `panic_contact` and
`device_prompt` use no fact but the time: no name, no place, no distance, no direction.
"""
