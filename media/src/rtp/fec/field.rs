//! Arithmetic of GF(256), polynomial x^8 + x^4 + x^3 + x^2 + 1. Addition is XOR.

/// The low bits of the polynomial.
const POLYNOMIAL: u8 = 0x1d;

static PRODUCTS: [[u8; 256]; 256] = products();
static INVERSES: [u8; 256] = inverses();

const fn slow_multiply(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b != 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        a = if a & 0x80 != 0 { a << 1 ^ POLYNOMIAL } else { a << 1 };
        b >>= 1;
    }
    product
}

const fn products() -> [[u8; 256]; 256] {
    let mut table = [[0; 256]; 256];
    let mut a = 0;
    while a < 256 {
        // Doubling and adding: one step an entry.
        let mut b = 1;
        while b < 256 {
            table[a][b] = if b.is_power_of_two() {
                slow_multiply(a as u8, b as u8)
            } else {
                table[a][b & (b - 1)] ^ table[a][b & b.wrapping_neg()]
            };
            b += 1;
        }
        a += 1;
    }
    table
}

const fn inverses() -> [u8; 256] {
    // x^254 = 1/x.
    let mut table = [0; 256];
    let mut x = 1;
    while x < 256 {
        let mut power = x as u8;
        let mut result = 1;
        let mut exponent = 254;
        while exponent > 0 {
            if exponent & 1 == 1 {
                result = slow_multiply(result, power);
            }
            power = slow_multiply(power, power);
            exponent >>= 1;
        }
        table[x] = result;
        x += 1;
    }
    table
}

/// The product.
pub(super) fn multiply(a: u8, b: u8) -> u8 {
    PRODUCTS[usize::from(a)][usize::from(b)]
}

/// 1 / `a`; 0 for 0.
pub(super) fn inverse(a: u8) -> u8 {
    INVERSES[usize::from(a)]
}

/// Adds `factor` times `source` to `target`, which grows with zeros where it is shorter.
pub(super) fn add_scaled(target: &mut Vec<u8>, factor: u8, source: &[u8]) {
    if target.len() < source.len() {
        target.resize(source.len(), 0);
    }
    let row = &PRODUCTS[usize::from(factor)];
    for (to, from) in target.iter_mut().zip(source) {
        *to ^= row[usize::from(*from)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_field() {
        for a in 0..=255u8 {
            assert_eq!(multiply(a, 1), a);
            assert_eq!(multiply(a, inverse(a)), u8::from(a != 0));
            for b in 0..=255u8 {
                assert_eq!(multiply(a, b), slow_multiply(a, b));
                assert_eq!(multiply(a, b ^ 0x35), multiply(a, b) ^ multiply(a, 0x35));
            }
        }
    }
}
