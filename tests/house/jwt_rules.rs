//! What RFC 8725 and years of broken verifiers teach, asked of a Doorward that serves.
