//! AWS: credentials by the default chain, and signatures.

mod credentials;
mod profile_file;
mod signature;

pub(crate) use credentials::AwsCredentialsChain;
pub(crate) use signature::{AwsCredentials, AwsSigner, UnsignedRequest, encoded_query};
