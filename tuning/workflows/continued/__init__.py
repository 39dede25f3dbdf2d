"""A run of tune taken on with rows that have come since: members are asked about nothing twice."""
