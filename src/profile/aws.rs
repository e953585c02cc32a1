//! The AWS access of a section: its region, and the variables that lead to credentials.

use crate::profile::environment::Environment;
use crate::profile::error::ProfileError;
use crate::profile::secret::Secret;
use crate::profile::section::Section;

/// The variables of AWS's default credentials chain, as its command line and libraries know them.
const VARIABLES: [&str; 20] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "HOME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_ENDPOINT_URL_STS",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
    "AWS_CA_BUNDLE",
];

/// A region of AWS, and the environment in which credentials are found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsAccess {
    /// The key `aws_region`.
    pub region: String,
    /// The variables that are set, of those that the chain knows.
    variables: Vec<(&'static str, Secret)>,
}

impl AwsAccess {
    /// Reads `aws_region` and the variables.
    ///
    /// # Errors
    /// When the region is missing or is not a name.
    pub(crate) fn read(section: &Section, from: &dyn Environment) -> Result<Self, ProfileError> {
        let region = section.required("aws_region", "aws_region = eu-central-1", from)?;
        // It becomes a part of host names.
        if !region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
            return Err(section.invalid("aws_region", "a region, as in `eu-central-1`"));
        }
        let set = |name: &&'static str| Some((*name, from.variable(name).filter(|value| !value.is_empty())?));
        let variables = VARIABLES.iter().filter_map(set).map(|(name, value)| (name, Secret::new(value))).collect();
        Ok(Self { region, variables })
    }

    /// Returns a variable of the chain.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(set, _)| *set == name).map(|(_, value)| value.reveal())
    }

    #[cfg(test)]
    pub(crate) fn with(region: &str, variables: &[(&'static str, &str)]) -> Self {
        let variables = variables.iter().map(|(name, value)| (*name, Secret::new((*value).to_owned()))).collect();
        Self { region: region.to_owned(), variables }
    }
}
