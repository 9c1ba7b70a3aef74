//! The options of where missing files come from.

use super::{Flags, Setting};
use crate::cli::{Env, UsageError};
use crate::config::{CredentialUse, Origin};

impl Flags {
    pub(super) fn origin(&self, env: Env<'_>) -> Result<Origin, UsageError> {
        let pick = |given: &[String], flag, variable| Setting::pick(given.to_vec(), flag, variable, env);
        let which = pick(&self.origin_credentials, "--origin-credentials", "FS_CACHE_ORIGIN_CREDENTIALS");
        let which = which.map(|which| which.read("policy", CredentialUse::parse)).transpose()?;
        let origin = match pick(&self.url, "--url", "FS_CACHE_URL").filter(Setting::is_set) {
            Some(url) => url.read("URL", Origin::parse)?,
            None if self.print_config => Origin { url: String::new(), ..unnamed()? },
            None => {
                return Err(UsageError(
                    "url must be specified with `-U <url>` or as FS_CACHE_URL".to_owned(),
                ));
            }
        };
        Ok(Origin { credential_use: which.unwrap_or(origin.credential_use), ..origin })
    }
}

/// An origin that nobody asks, where the configuration is only printed.
fn unnamed() -> Result<Origin, UsageError> {
    Origin::parse("http://localhost").map_err(UsageError)
}
