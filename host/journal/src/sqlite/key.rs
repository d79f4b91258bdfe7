//! Task ids as bytes that sort as the tree is read: `root/2` and all below it before `root/10`.
//!
//! The name of the root and a zero byte, then each number in 4 bytes, most significant first. What is below a task has
//! its key as a prefix.

use super::fault::Trouble;

/// The key of a task.
pub(super) fn key(task: &str) -> Result<Vec<u8>, Trouble> {
    let mut parts = task.split('/');
    let mut key = Vec::with_capacity(16);
    key.extend(parts.next().unwrap_or_default().bytes());
    let misfit = || Trouble::Misfit(format!("`{task}` is no id of a task"));
    if key.is_empty() || key.contains(&0) {
        return Err(misfit());
    }
    key.push(0);
    for part in parts {
        let number: u32 = part.parse().map_err(|_| misfit())?;
        // One number, one way to write it; the largest is kept free to stand behind all.
        if number == u32::MAX || number.to_string() != part {
            return Err(misfit());
        }
        key.extend(number.to_be_bytes());
    }
    Ok(key)
}

/// The keys below a task: greater than the first, less than the second. Below the empty id is every task.
pub(super) fn below(task: &str) -> Result<(Vec<u8>, Vec<u8>), Trouble> {
    let first = if task.is_empty() { Vec::new() } else { key(task)? };
    let mut end = first.clone();
    end.extend(u32::MAX.to_be_bytes());
    Ok((first, end))
}
