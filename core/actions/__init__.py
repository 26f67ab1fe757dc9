"""The use cases: the only place that changes state; one transaction each, committed before the answer."""
