//! Diagnostics: place, message and help, in one shape for policies and configuration.
