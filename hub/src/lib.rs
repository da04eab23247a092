//! The hub: takes batches, stores each record once, confirms it, serves live and past speeds.
