//! Golden scripts of the planner.
