//! Fast Leader Election.
