//! The directories of the command line for data that can be made again.

use std::path::PathBuf;

use agenthost::config::Env;

/// Returns the directory of compiled plugins.
pub(super) fn cache_dir(env: &Env) -> Option<PathBuf> {
    Some(cache_home(env)?.join("compiled"))
}

/// Returns the directory for reproducible data: `$XDG_CACHE_HOME/agenthost`, or `~/.cache/agenthost`.
pub(super) fn cache_home(env: &Env) -> Option<PathBuf> {
    let base = match env
        .var("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute())
    {
        Some(dir) => dir,
        None => env.home()?.join(".cache"),
    };
    Some(base.join("agenthost"))
}
