//! What the terminal is told: tables, colours, harmless text.
