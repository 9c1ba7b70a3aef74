//! The options of what is kept: of fills, and of the class that is checked.

use super::bounds::within;
use super::{Flags, Setting, count, joined, seconds, seconds_or_none, set};
use crate::cli::{Env, UsageError};
use crate::config::{Abandon, FillQuery, Fills, Revalidate};
use crate::http::caching::{After, IfError, Policy, StoredAnyway, vary};
use crate::preset::Preset;

impl Flags {
    /// What becomes of fills that do not go straight through.
    pub(super) fn fills(&self, env: Env<'_>, presets: &[&'static Preset]) -> Result<Fills, UsageError> {
        let default = Fills::default();
        let pick = |given: &[String], flag, variable| Setting::pick(given.to_vec(), flag, variable, env);
        let attempts = pick(&self.resume_attempts, "--resume-attempts", "FS_CACHE_RESUME_ATTEMPTS");
        let most = within(0, u64::from(u32::MAX));
        let attempts = attempts.map(|number| number.read("number", most)).transpose()?;
        let abandon = pick(&self.abandon_fill, "--abandon-fill", "FS_CACHE_ABANDON_FILL");
        let sweep = pick(&self.sweep_partials, "--sweep-partials", "FS_CACHE_SWEEP_PARTIALS");
        let query = pick(&self.fill_query, "--fill-query", "FS_CACHE_FILL_QUERY");
        // Package sites have no use for a query on a file.
        let usual = if presets.is_empty() { default.query } else { FillQuery::Strip };
        Ok(Fills {
            query: query.map_or(Ok(usual), |policy| policy.read("policy", FillQuery::parse))?,
            sweep: sweep.map(|age| age.read("time", seconds)).transpose()?,
            resume_attempts: attempts.and_then(|n| u32::try_from(n).ok()).unwrap_or(default.resume_attempts),
            abandon: abandon.map_or(Ok(default.abandon), |when| when.read("policy", Abandon::parse))?,
            sync: !(self.no_sync || set(env, "FS_CACHE_NO_SYNC").is_some()),
        })
    }

    /// The class that is checked, if there is one.
    pub(super) fn revalidate(
        &self,
        env: Env<'_>,
        presets: &[&'static Preset],
    ) -> Result<Option<Revalidate>, UsageError> {
        let pick = |given: &[String], flag, variable| Setting::pick(given.to_vec(), flag, variable, env);
        let after = pick(&self.revalidate_after, "--revalidate-after", "FS_CACHE_REVALIDATE_AFTER");
        let after = after.map(|time| match time.value.as_str() {
            "heuristic" => Ok(After::Heuristic),
            _ => time.read("time", |text| seconds_or_none(text, "heuristic")).map(After::Time),
        });
        let if_error = pick(&self.stale_if_error, "--stale-if-error", "FS_CACHE_STALE_IF_ERROR");
        let if_error = if_error.map(|time| match time.value.as_str() {
            "forever" => Ok(IfError::Forever),
            _ => time.read("time", |text| seconds_or_none(text, "forever")).map(IfError::Time),
        });
        let always = self.stale_if_error_always || set(env, "FS_CACHE_STALE_IF_ERROR_ALWAYS").is_some();
        if always && if_error.is_none() {
            return Err(UsageError("--stale-if-error-always needs --stale-if-error <s>".to_owned()));
        }
        let memory = pick(&self.revalidate_memory, "--revalidate-memory", "FS_CACHE_REVALIDATE_MEMORY");
        let memory = memory.map_or(Ok(Revalidate::MEMORY), |size| size.read("size", count))?;
        let targeted = self.cdn_cache_control || set(env, "FS_CACHE_CDN_CACHE_CONTROL").is_some();
        let keep = pick(&self.keep_fields, "--keep-fields", "FS_CACHE_KEEP_FIELDS");
        let default = Policy::default();
        let policy = Policy {
            after: after.unwrap_or(Ok(default.after))?,
            if_error: if_error.unwrap_or(Ok(default.if_error))?,
            if_error_always: always,
            targeted,
            stored_anyway: keep
                .map_or(Ok(default.stored_anyway), |list| list.read("list", StoredAnyway::parse))?,
        };
        let fields = pick(&self.fill_fields, "--fill-fields", "FS_CACHE_FILL_FIELDS");
        let fields = fields.map_or(Ok(Vec::new()), |list| list.read("list", vary::names))?;
        let regex = pick(&self.revalidate, "--revalidate", "FS_CACHE_REVALIDATE").filter(Setting::is_set);
        let theirs = presets.iter().map(|preset| preset.revalidate.join("|")).collect::<Vec<_>>();
        let pattern = match regex {
            Some(regex) => Some(regex.read("regex", |source| joined(source, &theirs))?),
            None if presets.is_empty() => None,
            None => Some(joined("", &theirs).map_err(UsageError)?),
        };
        let memory = usize::try_from(memory).unwrap_or(usize::MAX);
        Ok(pattern.map(|pattern| Revalidate { pattern, policy, memory, fields }))
    }
}
