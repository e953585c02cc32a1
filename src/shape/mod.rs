//! Shaping of JSON values: pure, JSON in, JSON out.
