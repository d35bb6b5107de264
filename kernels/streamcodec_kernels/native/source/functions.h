// Functions of vectors, within a few units in the last place. Their polynomials are those of Cephes (Moshier 1989).
#pragma once

#include "plan.h"
#include "vector.h"

// exp(x) = 2^n exp(r), |r| <= ln(2) / 2: 2^n, and exp(r) - 1.
struct Power {
    V scale, rest;
};

static inline Power power(V x) {
    x = clamp(x, -87.0f, 88.0f);
    const V n = nearest(x * all(1.44269504f));
    V r = fused(n, all(-0.693359375f), x);  // ln(2) in two parts, the first of few bits
    r = fused(n, all(2.12194440e-4f), r);
    V p = all(1.9875691500e-4f);
    p = fused(p, r, all(1.3981999507e-3f));
    p = fused(p, r, all(8.3334519073e-3f));
    p = fused(p, r, all(4.1665795894e-2f));
    p = fused(p, r, all(1.6666665459e-1f));
    p = fused(p, r, all(5.0000001201e-1f));
    const I exponent = __builtin_convertvector(n, I) + 127;
    return {bits(exponent << 23), fused(p, r * r, r)};
}

static inline V exp_less_1(V x) {
    const Power e = power(x);
    return fused(e.scale, e.rest, e.scale - all(1.0f));
}

static inline V exponential(V x) {
    const Power e = power(x);
    return fused(e.scale, e.rest, e.scale);
}

static inline V sigmoid(V x) { return all(1.0f) / (all(1.0f) + exponential(-x)); }

static inline V tanh(V x) {
    const I sign = bits(x) & INT32_MIN;
    const V below = exp_less_1(bits(bits(x) | INT32_MIN) * all(2.0f));  // exp(-2 |x|) - 1
    return bits(bits(-below / (below + all(2.0f))) | sign);
}

// x times the normal distribution's integral up to it, by the error function of x / sqrt(2).
static inline V gelu(V x) {
    const V z = x * all(0.70710678f), q = z * z, size = bits(bits(z) & INT32_MAX);
    V near = all(7.853861353153693e-5f);
    near = fused(near, q, all(-8.010193625184903e-4f));
    near = fused(near, q, all(5.188327685732524e-3f));
    near = fused(near, q, all(-2.685381193529856e-2f));
    near = fused(near, q, all(1.128358514861418e-1f));
    near = fused(near, q, all(-3.761262582423300e-1f));
    near = fused(near, q, all(1.128379165726710f)) * z;
    // From 1 on by what is missing to 1, in powers of 1 / z^2; of two polynomials the second is for 2 and more.
    const V inverse = all(1.0f) / size, r = inverse * inverse;
    V middle = all(2.326819970068386e-2f);
    middle = fused(middle, r, all(-1.387039388740657e-1f));
    middle = fused(middle, r, all(3.687424674597105e-1f));
    middle = fused(middle, r, all(-5.824733027278666e-1f));
    middle = fused(middle, r, all(6.210004621745983e-1f));
    middle = fused(middle, r, all(-4.944515323274145e-1f));
    middle = fused(middle, r, all(3.404879937665872e-1f));
    middle = fused(middle, r, all(-2.741127028184656e-1f));
    middle = fused(middle, r, all(5.638259427386472e-1f));
    V far = all(-1.047766399936249e+1f);
    far = fused(far, r, all(1.297719955372516e+1f));
    far = fused(far, r, all(-7.495518717768503f));
    far = fused(far, r, all(2.921019019210786f));
    far = fused(far, r, all(-1.015265279202700f));
    far = fused(far, r, all(4.218463358204948e-1f));
    far = fused(far, r, all(-2.820767439740514e-1f));
    far = fused(far, r, all(5.641895067754075e-1f));
    const V missing = exponential(-q) * inverse * (size < all(2.0f) ? middle : far);
    const V beyond = x < zero() ? missing : all(2.0f) - missing;  // 1 + erf(z)
    return all(0.5f) * x * (size < all(1.0f) ? all(1.0f) + near : beyond);
}

// The same with 1 + tanh(z) in the place of the integral, which is twice the sigmoid of 2 z.
static inline V gelu_tanh(V x) {
    const V z = x * fused(x * x, all(0.7978845608f * 0.044715f), all(0.7978845608f));
    return x * sigmoid(z + z);
}

static inline V hardtanh(V x) { return clamp(x, -1.0f, 1.0f); }

// TensorFlow's default slope (`LEAK` in streamcodec/vector_math.py).
static inline V leaky_relu(V x) { return x < zero() ? x * all(0.3f) : x; }

static inline V elu(V x) { return x < zero() ? exp_less_1(x) : x; }

static inline V silu(V x) { return x * sigmoid(x); }

// sin(x)^2, whose period is pi.
static inline V squared_sine(V x) {
    const V n = nearest(x * all(0.318309886f));
    V r = fused(n, all(-3.140625f), x);  // pi in three parts, the first ones of few bits
    r = fused(n, all(-9.67502593994140625e-4f), r);
    r = clamp(fused(n, all(-1.509957990978376e-7f), r), -1.6f, 1.6f);
    const V q = r * r;
    V p = all(-2.3889859e-8f);
    p = fused(p, q, all(2.7525562e-6f));
    p = fused(p, q, all(-1.9840874e-4f));
    p = fused(p, q, all(8.3333310e-3f));
    p = fused(p, q, all(-1.6666667e-1f));
    const V sine = fused(p * q, r, r);
    return sine * sine;
}

static inline V snake(V x, const float *alpha, const float *inverse) {
    return fused(load(inverse), squared_sine(load(alpha) * x), x);
}

static inline V activated(V x, const Target &target, int64_t column) {
    switch (target.activation) {
        case ELU: return elu(x);
        case TANH: return tanh(x);
        case SILU: return silu(x);
        case GELU: return gelu(x);
        case LEAKY_RELU: return leaky_relu(x);
        case GELU_TANH: return gelu_tanh(x);
        case HARDTANH: return hardtanh(x);
        case SNAKE: return snake(x, target.alpha + column, target.inverse + column);
        default: return x;
    }
}
