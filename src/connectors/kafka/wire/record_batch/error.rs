//! Why the bytes of a batch cannot be used.

/// Why the bytes of a batch cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// A length, count or offset of the batch contradicts the others.
    #[error("corrupt record batch: {0}")]
    Corrupt(&'static str),
    /// The checksum does not match the bytes.
    #[error("corrupt record batch: the checksum is {computed:#010x}, not {stated:#010x}")]
    Checksum {
        /// As the header states it.
        stated: u32,
        /// As the bytes give it.
        computed: u32,
    },
    /// The batch is older than Kafka 0.11.
    #[error("record batch of magic {0}")]
    Magic(i8),
    /// The header names a codec that Kafka does not have.
    #[error("record batch with the unknown compression codec {0}")]
    Codec(i16),
    /// The codec cannot read the bytes.
    #[error("corrupt record batch: {codec}: {reason}")]
    Compression {
        /// The codec's name.
        codec: &'static str,
        /// In the words of its library.
        reason: String,
    },
    /// The records take more bytes than a batch may after decompression.
    #[error("record batch of {compressed} bytes exceeds {limit} bytes after decompression")]
    TooLarge {
        /// Bytes before decompression.
        compressed: usize,
        /// Bytes that are allowed.
        limit: usize,
    },
    /// More records or bytes than one batch can have.
    #[error("the records do not fit into one batch")]
    Full,
}
