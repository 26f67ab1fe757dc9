"""The detection core and the workers that run it.

Model. Time, pings and configuration arrive in one log a shard; `geo.engine` folds that log into states and
transitions. It is a pure function of the log: the same entries give the same transitions, ids included, however
they are cut into batches and whoever runs it. Everything up to `engine` computes on numpy arrays and does no
input or output:

    frame        degrees → metres, without seams at the date line or the poles
    track        a ping → a fix: live time, accuracy, speed; which fix counts
    fix_filter   fixes → where a device is and how sure that is: a robust Kalman filter
    doubts       fixes that nothing explains; jumps, frozen receivers, satellites against Wi-Fi
    separation   two fixes → distance, probability within a radius, closest approach, closing speed
    zones        places: validation, local geometry, schedules, signed distance to the edge
    states       clear → warning → breach: up at once, down slowly
    sampling     how often a device should be heard
    rows         the columnar tables; roster: configuration → rows; memory: rows ↔ bytes in Redis
    proximity, trespass, pulse   the rules of orders, of zones and of devices over those rows
    hall         the tables of several engines, and what is done to a batch of pings of all of them
    engine       the log → transitions

Guarantees. A ping never raises; an unknown device or a damaged record is counted and passed over. A configuration
replaces all that was known of its case and is judged at once (level, not edge). What is not known never lowers
a state. The engine's state is small, binary and complete: an engine restored from the fields it gave away over time
continues as if nothing had happened.

A worker's engines sit in one hall and take `turns`: what one of them decides does not depend on its company.
The workers (`worker`, `recorder`, `historian`) do the input and output; `replay` runs the same engine over files.
"""
