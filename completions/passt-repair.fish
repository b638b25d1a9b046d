# Generated from the table of flags.
