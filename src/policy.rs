//! Policies: what a client may do.
