//! The owner of a limit that stopped a task.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::units::show_count;

/// The owner of a limit that stopped a task.
///
/// ```
/// use agenthost_core::limits::LimitOwner;
///
/// let owner = LimitOwner::SubTasks("root".into());
/// assert_eq!(owner.to_string(), "the part of root for its sub-tasks");
/// assert_eq!(serde_json::to_value(&owner).unwrap(), serde_json::json!({"sub-tasks": "root"}));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LimitOwner {
    /// All root tasks of one command together.
    Run,
    /// A task, with everything below it.
    Task(String),
    /// All sub-tasks of a task together, which get what it does not keep back.
    SubTasks(String),
    /// Some sub-tasks of a task, which get one share of what it has for all of them.
    Share(String),
    /// The same, for a share that got nothing: the others would have too few tokens otherwise.
    NoShare {
        /// The task.
        task: String,
        /// The fewest tokens that are of use to a share.
        least: u64,
        /// The number of shares that got something.
        served: u32,
        /// The number of all shares.
        parts: u32,
    },
    /// A setting of `[allowance]`, for all runs of a user or of a project, or of a schedule.
    Allowance {
        /// The key, such as `cost-per-day`.
        key: String,
        /// `true` for the allowance of the project's file.
        project: bool,
        /// The schedule whose runs it limits; `None` for `[allowance]`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        schedule: Option<String>,
    },
}

impl fmt::Display for LimitOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run => f.write_str("the whole run"),
            Self::Task(task) => write!(f, "task {task}"),
            Self::SubTasks(task) => write!(f, "the part of {task} for its sub-tasks"),
            Self::Share(task) => write!(f, "one share of the part of {task} for its sub-tasks"),
            Self::NoShare {
                task,
                least,
                served,
                parts,
            } => write!(
                f,
                "a share of {task} that got nothing, because at least {} tokens each are enough for {served} of {parts}",
                show_count(*least)
            ),
            Self::Allowance {
                key,
                schedule: Some(schedule),
                ..
            } => write!(f, "`{key}` of the schedule {schedule}"),
            Self::Allowance {
                key, project: false, ..
            } => write!(f, "your allowance `{key}`"),
            Self::Allowance { key, project: true, .. } => write!(f, "the project's allowance `{key}`"),
        }
    }
}
