//! What this processor can do that not all can.

/// As [`wire::checksum::sum`], with the widest vectors of this processor.
#[must_use]
pub fn checksum_sum(data: &[u8]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { checksum_sum_avx2(data) };
    }
    wire::checksum::sum(data)
}

/// The method of [`wire::checksum::sum`], written out: left to itself, the compiler makes less of it
/// with AVX2 than without.
///
/// # Safety
/// Only for processors with AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn checksum_sum_avx2(data: &[u8]) -> u64 {
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi64, _mm256_loadu_si256, _mm256_setzero_si256, _mm256_srli_epi64,
    };
    use wire::checksum;

    // Two vectors, whose additions need not wait for each other.
    type Block = [[u8; 32]; 2];
    let blocks = data.chunks_exact(size_of::<Block>());
    let rest = checksum::sum(blocks.remainder());
    // SAFETY: a block has two pieces of 32 bytes, which need not be aligned for this load; the other operations
    // are on registers, and the processor has them; sums of both types are 64 bytes, any of them valid.
    let [whole, upper] = unsafe {
        let mut whole = [_mm256_setzero_si256(); 2];
        let mut upper = whole;
        for block in blocks {
            for (at, (whole, upper)) in whole.iter_mut().zip(&mut upper).enumerate() {
                let word = _mm256_loadu_si256(block.as_ptr().cast::<__m256i>().add(at));
                *whole = _mm256_add_epi64(*whole, word);
                *upper = _mm256_add_epi64(*upper, _mm256_srli_epi64::<32>(word));
            }
        }
        std::mem::transmute::<[[__m256i; 2]; 2], [[u64; 8]; 2]>([whole, upper])
    };
    let whole = whole.into_iter().fold(0, u64::wrapping_add);
    checksum::in_network_meaning(checksum::halves(whole, upper.into_iter().sum())) + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::checksum::{fold, sum};

    #[test]
    fn the_sum_is_the_same() {
        let data: Vec<u8> = (0..70_000u32).map(|i| (i * 151 + 77).to_le_bytes()[1]).collect();
        for (start, len) in [(0, 0), (1, 1), (3, 63), (0, 64), (5, 1460), (7, 8961), (2, 65_535)] {
            let piece = &data[start..start + len];
            assert_eq!(fold(checksum_sum(piece)), fold(sum(piece)), "{len} bytes");
        }
        assert_eq!(fold(checksum_sum(&[0xff; 65_535])), fold(sum(&[0xff; 65_535])));
    }
}
