//! One file, many hands: what was acknowledged is there, whatever happens.
