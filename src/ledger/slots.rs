//! Wrapped keys and small sealed files, kept so that destroying them really destroys them.
//!
//! `secure_delete` zeroes what SQLite frees, but not the copies that stay in a page's unused part
//! after SQLite has moved live rows to another page to balance its tree (`rebuildPage` in
//! btree.c). So keys lie in rows that never move: all of one length, appended in order of rowid,
//! never deleted, overwritten in place with zeros when their key is destroyed, then used again.
//! Sealed bytes move now and then; without their key they are noise.

use crate::ledger::writer::execute_cached;
use rusqlite::{Connection, Error, OptionalExtension};

/// Bytes of one slot: a length, the wrapped key, zeros.
const SLOT_BYTES: usize = 128;

/// A wrapped key that no slot can hold.
#[derive(Debug, thiserror::Error)]
#[error("a wrapped key has {0} bytes; 1 to 127 fit")]
struct BadLength(usize);

/// Stores a wrapped key; the number of its slot.
pub(super) fn keep_key(connection: &Connection, wrapped: &[u8]) -> Result<i64, Error> {
    let padded = pad(wrapped)?;
    let sql = "SELECT slot FROM key_slots INDEXED BY free_key_slots WHERE used = 0 LIMIT 1";
    let free: Option<i64> = connection
        .prepare_cached(sql)?
        .query_row([], |row| row.get(0))
        .optional()?;
    if let Some(slot) = free {
        write_slot(connection, slot, Used::Yes, &padded)?;
        return Ok(slot);
    }
    let sql = "INSERT INTO key_slots (used, wrapped) VALUES (1, ?1)";
    execute_cached(connection, sql, [&padded[..]])?;
    Ok(connection.last_insert_rowid())
}

/// Overwrites a slot with zeros and sets it free.
pub(super) fn destroy_key(connection: &Connection, slot: i64) -> Result<(), Error> {
    write_slot(connection, slot, Used::No, &[0; SLOT_BYTES])
}

/// The wrapped key in the bytes of a slot.
pub(super) fn key_in(slot: &[u8]) -> Option<Vec<u8>> {
    let (length, rest) = slot.split_first()?;
    rest.get(..usize::from(*length)).map(<[u8]>::to_vec)
}

/// Stores the sealed bytes of a small file; their number.
pub(super) fn keep_bytes(connection: &Connection, sealed: &[u8]) -> Result<i64, Error> {
    execute_cached(
        connection,
        "INSERT INTO inlines (sealed) VALUES (?1)",
        [sealed],
    )?;
    Ok(connection.last_insert_rowid())
}

/// Deletes sealed bytes; `secure_delete` zeroes their pages.
pub(super) fn destroy_bytes(connection: &Connection, number: i64) -> Result<(), Error> {
    execute_cached(
        connection,
        "DELETE FROM inlines WHERE number = ?1",
        [number],
    )?;
    Ok(())
}

#[derive(Clone, Copy, Debug)]
enum Used {
    Yes,
    No,
}

fn write_slot(connection: &Connection, slot: i64, used: Used, bytes: &[u8]) -> Result<(), Error> {
    let used: i64 = match used {
        Used::Yes => 1,
        Used::No => 0,
    };
    let changed = execute_cached(
        connection,
        "UPDATE key_slots SET used = ?2, wrapped = ?3 WHERE slot = ?1",
        (slot, used, bytes),
    )?;
    if changed == 1 {
        Ok(())
    } else {
        Err(Error::StatementChangedRows(changed))
    }
}

fn pad(wrapped: &[u8]) -> Result<[u8; SLOT_BYTES], Error> {
    let too_long = || Error::ToSqlConversionFailure(Box::new(BadLength(wrapped.len())));
    let mut slot = [0; SLOT_BYTES];
    let (length, rest) = slot.split_first_mut().ok_or_else(too_long)?;
    *length = u8::try_from(wrapped.len())
        .ok()
        .filter(|n| *n > 0)
        .ok_or_else(too_long)?;
    rest.get_mut(..wrapped.len())
        .ok_or_else(too_long)?
        .copy_from_slice(wrapped);
    Ok(slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_from_its_slot_and_what_does_not_fit_is_refused() {
        assert_eq!(key_in(&pad(&[7; 60]).unwrap()), Some(vec![7; 60]));
        assert_eq!(key_in(&pad(&[7; 127]).unwrap()), Some(vec![7; 127]));
        assert!(pad(&[7; 128]).is_err());
        assert!(pad(&[]).is_err());
    }

    /// Keeps and destroys keys in the disorder of `seed`; what is in the file afterwards, and what
    /// should be.
    fn after_much_use(seed: u64) -> (Vec<u32>, Vec<u32>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state.db");
        std::fs::write(&file, b"").unwrap();
        let connection = crate::ledger::connect(&file, "x", crate::ledger::Access::Write).unwrap();
        crate::ledger::migrations::migrate(&connection, "x").unwrap();
        let mut state = seed;
        let mut below = |bound: usize| {
            // xorshift64 (Marsaglia 2003): the same disorder every time.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % u64::try_from(bound).unwrap()).unwrap()
        };
        let mut live: Vec<(i64, u32)> = Vec::new();
        connection.execute_batch("BEGIN").unwrap();
        for n in 0..2000_u32 {
            if below(100) < 45 && !live.is_empty() {
                let (slot, _) = live.swap_remove(below(live.len()));
                destroy_key(&connection, slot).unwrap();
            } else {
                let key = format!("CANARY{n:06}{}", ".".repeat(below(100)));
                live.push((keep_key(&connection, key.as_bytes()).unwrap(), n));
            }
        }
        connection.execute_batch("COMMIT").unwrap();
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        let busy = connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        assert_eq!(busy, Ok(0));
        let slots: u32 = connection
            .query_row("SELECT count(*) FROM key_slots", [], |row| row.get(0))
            .unwrap();
        assert!(
            usize::try_from(slots).unwrap() < 2 * live.len(),
            "free slots are used again"
        );

        let content = std::fs::read(&file).unwrap();
        let mut found: Vec<u32> = memchr::memmem::find_iter(&content, b"CANARY")
            .map(|at| {
                str::from_utf8(&content[at + 6..at + 12])
                    .unwrap()
                    .parse()
                    .unwrap()
            })
            .collect();
        let mut expect: Vec<u32> = live.iter().map(|(_, n)| *n).collect();
        found.sort_unstable();
        expect.sort_unstable();
        (found, expect)
    }

    #[test]
    fn keys_destroyed_in_disorder_leave_no_copy_and_the_others_stay() {
        // With rows as long as their keys, and deleted, some of these seeds leave copies behind.
        for seed in 1..=10_u64 {
            let (found, expect) = after_much_use(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            assert_eq!(found, expect, "seed {seed}");
        }
    }
}
