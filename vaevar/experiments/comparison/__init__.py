"""The comparison of all arms over networks and seeds."""
