//! RSA public keys that can be factored, because of a weak generator or on purpose.

use num_bigint::BigUint;

/// The primes with which a library with the weakness CVE-2017-15361 (ROCA) made keys of 1984 to 3936 bits; longer keys
/// use these and more.
const ROCA_PRIMES: u32 = 701;

/// No modulus may be divisible by a prime up to this one.
const SMALL_PRIMES: u32 = 10_000;

/// The number of steps of Fermat's method. Primes that were generated independently need many more.
const FERMAT_STEPS: u32 = 100;

/// Why a key is weak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeakRsa {
    /// The exponent is 1 or even.
    #[error("its exponent is 1 or even")]
    Exponent,
    /// The modulus is even or divisible by a small prime.
    #[error("its modulus has a small factor")]
    SmallFactor,
    /// The primes have the weakness CVE-2017-15361.
    #[error("its primes were drawn by a library with the weakness ROCA (CVE-2017-15361)")]
    Roca,
    /// The primes are so close that Fermat's method finds them (CVE-2022-26320).
    #[error("its primes are close to each other (CVE-2022-26320)")]
    ClosePrimes,
}

/// Checks a modulus and an exponent, both big-endian.
pub(super) fn check(n: &[u8], e: &[u8]) -> Result<(), WeakRsa> {
    let leading = e.iter().take_while(|byte| **byte == 0).count();
    let exponent = e.get(leading..).unwrap_or_default();
    if exponent.last().is_none_or(|last| last & 1 == 0) || exponent == [1] {
        return Err(WeakRsa::Exponent);
    }
    if primes(SMALL_PRIMES).any(|prime| modulo(n, prime) == 0) {
        return Err(WeakRsa::SmallFactor);
    }
    if is_roca(n) {
        return Err(WeakRsa::Roca);
    }
    match has_close_primes(&BigUint::from_bytes_be(n)) {
        true => Err(WeakRsa::ClosePrimes),
        false => Ok(()),
    }
}

/// Both primes are *k·M + (65537^a mod M)*, where *M* is the product of the first primes, so the modulus is a power of
/// 65537 modulo each of them (Nemec et al., The Return of Coppersmith's Attack, 2017). A random modulus has this
/// property with a probability of less than 2⁻¹⁰⁰.
fn is_roca(n: &[u8]) -> bool {
    primes(ROCA_PRIMES).skip(1).all(|prime| {
        let generator = 65537 % prime;
        let mut power = 1;
        let mut order = 0;
        // The powers form a cyclic group: a residue is one of them if its order divides theirs.
        loop {
            power = power * generator % prime;
            order += 1;
            if power == 1 || order == prime {
                break;
            }
        }
        power_modulo(modulo(n, prime), order, prime) == 1
    })
}

fn has_close_primes(n: &BigUint) -> bool {
    let mut half = n.sqrt();
    if &half * &half < *n {
        half += 1_u32;
    }
    (0..FERMAT_STEPS).any(|step| {
        let middle = &half + step;
        let square = &middle * &middle - n;
        // The last digits show that most numbers are not squares.
        let digit = square.iter_u32_digits().next().unwrap_or(0) % 16;
        matches!(digit, 0 | 1 | 4 | 9) && {
            let root = square.sqrt();
            &root * &root == square
        }
    })
}

fn primes(below: u32) -> impl Iterator<Item = u32> {
    (2..=below).filter(|number| {
        (2..)
            .take_while(|divisor| divisor * divisor <= *number)
            .all(|divisor| number % divisor != 0)
    })
}

/// The remainder of a big-endian number.
fn modulo(number: &[u8], prime: u32) -> u32 {
    number
        .iter()
        .fold(0, |rest, byte| (rest << 8 | u32::from(*byte)) % prime)
}

fn power_modulo(base: u32, exponent: u32, prime: u32) -> u32 {
    (0..exponent).fold(1, |power, _| power * base % prime)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand;

    use super::*;
    use crate::key::{Algorithm, Key, KeyFault};
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

    const E: &[u8] = &[1, 0, 1];

    fn random(bits: u64) -> BigUint {
        let mut bytes = vec![0; usize::try_from(bits / 8).unwrap()];
        rand::fill(&mut bytes).unwrap();
        let mut number = BigUint::from_bytes_be(&bytes);
        number.set_bit(bits - 1, true);
        number.set_bit(bits - 2, true);
        number.set_bit(0, true);
        number
    }

    /// Fermat's test with one base is enough for numbers that no attacker chose.
    fn is_prime(number: &BigUint) -> bool {
        let bytes = number.to_bytes_be();
        let less = number - 1_u32;
        primes(2_000).all(|prime| modulo(&bytes, prime) != 0)
            && BigUint::from(2_u32).modpow(&less, number) == BigUint::from(1_u32)
    }

    fn prime_from(mut number: BigUint) -> BigUint {
        while !is_prime(&number) {
            number += 2_u32;
        }
        number
    }

    fn roca_prime(product: &BigUint) -> BigUint {
        loop {
            let residue = BigUint::from(65537_u32).modpow(&random(256), product);
            let free = 1024 - product.bits();
            let mut factor = random(64) >> (64 - free);
            if free > 1 {
                factor.set_bit(free - 1, true);
            }
            let prime = factor * product + residue;
            if is_prime(&prime) {
                return prime;
            }
        }
    }

    fn fault(n: &BigUint, e: &[u8]) -> Option<KeyFault> {
        let part = |part: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(part);
        let jwk = format!(
            r#"{{"kty":"RSA","alg":"RS256","kid":"k","n":"{}","e":"{}"}}"#,
            part(&n.to_bytes_be()),
            part(e)
        );
        Key::from_jwk(&jwk).err()
    }

    #[test]
    fn keys_with_the_roca_weakness_are_refused() {
        let product: BigUint = primes(ROCA_PRIMES).map(BigUint::from).product();
        // The published number for keys of 2048 bits: the first 126 primes.
        assert_eq!(primes(ROCA_PRIMES).count(), 126);
        let n = roca_prime(&product) * roca_prime(&product);
        assert_eq!(fault(&n, E), Some(KeyFault::WeakRsa(WeakRsa::Roca)));
    }

    #[test]
    fn keys_that_can_be_factored_are_refused() {
        use WeakRsa::{ClosePrimes, Exponent, SmallFactor};
        let prime = prime_from(random(1024));
        let close = prime_from(&prime + 2_u32);
        let other = prime_from(random(1024));
        let weak = |n: &BigUint, e: &[u8], why| {
            assert_eq!(fault(n, e), Some(KeyFault::WeakRsa(why)), "{why}");
        };
        weak(&(&prime * &close), E, ClosePrimes);
        weak(&(&prime * &prime), E, ClosePrimes);
        for small in [2_u32, 3, 701, 9973] {
            weak(&(&prime * prime_from(random(1032)) * small), E, SmallFactor);
        }
        let n = &prime * &other;
        for e in [&[1][..], &[0, 1], &[2], &[1, 0, 0], &[0], &[]] {
            weak(&n, e, Exponent);
        }
        assert_eq!(fault(&n, E), None);
        let short = prime_from(random(512)) * prime_from(random(512));
        assert!(matches!(fault(&short, E), Some(KeyFault::ShortRsa(_))));
    }

    #[test]
    fn good_keys_are_accepted() {
        for _ in 0..4 {
            let id = crate::key::KeyId::parse("k").unwrap();
            let zero = crate::token::UnixTime(0);
            let file = Key::generate(&id, Algorithm::Rs256, zero).unwrap();
            assert!(Key::read("k", file.as_bytes()).is_ok());
        }
        // Random numbers without small factors, as real keys are.
        let mut taken = 0;
        while taken < 200 {
            let n = random(2048).to_bytes_be();
            if primes(SMALL_PRIMES).all(|prime| modulo(&n, prime) != 0) {
                assert_eq!(check(&n, E), Ok(()));
                taken += 1;
            }
        }
    }
}
