//! Where a value belongs in a series of buckets: four to each power of two, so that a bucket is a quarter as wide as what it begins at, or less.

/// The bucket of a value; the last of `count` has all that is larger.
pub(crate) fn bucket(value: u64, count: usize) -> usize {
    if value < 4 {
        return value as usize;
    }
    let power = value.ilog2() as usize;
    let quarter = (value >> (power - 2)) as usize & 3;
    (4 * (power - 1) + quarter).min(count - 1)
}

/// The least value of a bucket.
pub(crate) fn lower_bound(index: usize) -> u64 {
    if index < 4 {
        return index as u64;
    }
    let (power, quarter) = (index / 4 + 1, index as u64 % 4);
    (4 + quarter) << (power - 2)
}
