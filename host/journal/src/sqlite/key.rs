//! Task ids as bytes that sort in the order of the tree: `root/2` and everything below it before `root/10`.
//!
//! A key is the name of the root and a zero byte, then each number as 4 bytes in big-endian order. A task's key is a
//! prefix of the keys below it.

use super::fault::Trouble;

/// Returns the key of a task.
pub(super) fn key(task: &str) -> Result<Vec<u8>, Trouble> {
    let mut parts = task.split('/');
    let mut key = Vec::with_capacity(16);
    key.extend(parts.next().unwrap_or_default().bytes());
    let misfit = || Trouble::Misfit(format!("`{task}` is not a valid task id"));
    if key.is_empty() || key.contains(&0) {
        return Err(misfit());
    }
    key.push(0);
    for part in parts {
        let number: u32 = part.parse().map_err(|_| misfit())?;
        // Each number has one spelling. The largest is reserved for the end of `below`.
        if number == u32::MAX || number.to_string() != part {
            return Err(misfit());
        }
        key.extend(number.to_be_bytes());
    }
    Ok(key)
}

/// Returns the bounds, both exclusive, of the keys below a task. Every task is below the empty id.
pub(super) fn below(task: &str) -> Result<(Vec<u8>, Vec<u8>), Trouble> {
    let first = if task.is_empty() { Vec::new() } else { key(task)? };
    let mut end = first.clone();
    end.extend(u32::MAX.to_be_bytes());
    Ok((first, end))
}
