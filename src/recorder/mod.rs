//! Readings become samples, samples become records.
