/* Passes over memory that torch makes one by one, made at once: forward and gradient of three small steps of a block.
 * Compiled on the user's machine by fused.py, which holds the readable meaning of each and decides when they are used.
 * All arrays are contiguous float32. Rows are divided among the threads of torch's own OpenMP. */

#include <math.h>
#include <string.h>

#ifdef _OPENMP
int omp_get_thread_num(void);
int omp_get_num_threads(void);
#else
static int omp_get_thread_num(void) { return 0; }
static int omp_get_num_threads(void) { return 1; }
#endif

static float inverse_rms(const float *x, long d, float eps) {
    float sum = 0.0f;
    for (long i = 0; i < d; i++) sum += x[i] * x[i];
    return 1.0f / sqrtf(sum / (float)d + eps);
}

/* e^x to about two units in the last place, in a form that compilers turn into vector code. */
static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float whole = rintf(x * 1.44269504f), r = x - whole * 0.693147181f, power;
    int bits = ((int)whole + 127) << 23;
    memcpy(&power, &bits, sizeof power);
    return power * (1.0f + r * (1.0f + r * (0.5f + r * (1.0f / 6 + r * (1.0f / 24 + r * (1.0f / 120 + r * (1.0f / 720)))))));
}

/* Waking a second thread costs more than a few thousand numbers do, as when one token is decoded. */
#define ENOUGH(numbers) ((numbers) > 16384)

static void my_share(long rows, long *first, long *end) {
    long n = omp_get_num_threads(), me = omp_get_thread_num();
    *first = rows * me / n;
    *end = rows * (me + 1) / n;
}

/* out = x / rms(x) * gain */
void rms_norm(const float *x, const float *gain, float *out, long rows, long d, float eps) {
    #pragma omp parallel if (ENOUGH(rows * d))
    {
        long first, end;
        my_share(rows, &first, &end);
        for (long row = first; row < end; row++) {
            const float *from = x + row * d;
            float *to = out + row * d, scale = inverse_rms(from, d, eps);
            for (long i = 0; i < d; i++) to[i] = from[i] * scale * gain[i];
        }
    }
}

/* The gradient of one row: with y = x/rms and h = g*gain, dx = (h - y*mean(h*y)) / rms, and g*y adds to the gain's. */
static void norm_grad_row(const float *g, const float *x, const float *gain, float *dx, float *dgain, long d, float eps) {
    float scale = inverse_rms(x, d, eps), dot = 0.0f;
    for (long i = 0; i < d; i++) dot += g[i] * gain[i] * x[i];
    float shift = dot * scale * scale / (float)d;
    for (long i = 0; i < d; i++) {
        dgain[i] += g[i] * x[i] * scale;
        dx[i] = (g[i] * gain[i] - x[i] * shift) * scale;
    }
}

/* dgain: one row of d for each thread, zero before; their sum is the gain's gradient. */
void rms_norm_grad(const float *g, const float *x, const float *gain, float *dx, float *dgain, long rows, long d, float eps) {
    #pragma omp parallel if (ENOUGH(rows * d))
    {
        long first, end;
        my_share(rows, &first, &end);
        float *mine = dgain + omp_get_thread_num() * d;
        for (long row = first; row < end; row++)
            norm_grad_row(g + row * d, x + row * d, gain, dx + row * d, mine, d, eps);
    }
}

/* x: b t h k to out: b h t k, each head normalised and its pairs (i, i + k/2) turned by the angle of its position.
 * cosine, sine: t k/2. */
void norm_turn(const float *x, const float *gain, const float *cosine, const float *sine, float *out,
               long batch, long length, long heads, long k, float eps) {
    long half = k / 2;
    #pragma omp parallel if (ENOUGH(batch * length * heads * k))
    {
        long first, end;
        my_share(batch * length, &first, &end);
        for (long row = first; row < end; row++) {
            long b = row / length, t = row % length;
            const float *c = cosine + t * half, *s = sine + t * half;
            for (long h = 0; h < heads; h++) {
                const float *from = x + (row * heads + h) * k;
                float *to = out + ((b * heads + h) * length + t) * k, scale = inverse_rms(from, k, eps);
                for (long i = 0; i < half; i++) {
                    float one = from[i] * scale * gain[i], two = from[i + half] * scale * gain[i + half];
                    to[i] = one * c[i] - two * s[i];
                    to[i + half] = two * c[i] + one * s[i];
                }
            }
        }
    }
}

/* The gradient: g (b h t k) turned back, then through the norm. `room`: k floats for each thread. */
void norm_turn_grad(const float *g, const float *x, const float *gain, const float *cosine, const float *sine, float *dx,
                    float *dgain, float *room, long batch, long length, long heads, long k, float eps) {
    long half = k / 2;
    #pragma omp parallel if (ENOUGH(batch * length * heads * k))
    {
        long first, end, me = omp_get_thread_num();
        my_share(batch * length, &first, &end);
        float *mine = dgain + me * k, *back = room + me * k;
        for (long row = first; row < end; row++) {
            long b = row / length, t = row % length;
            const float *c = cosine + t * half, *s = sine + t * half;
            for (long h = 0; h < heads; h++) {
                const float *from = g + ((b * heads + h) * length + t) * k;
                for (long i = 0; i < half; i++) {
                    back[i] = from[i] * c[i] + from[i + half] * s[i];
                    back[i + half] = from[i + half] * c[i] - from[i] * s[i];
                }
                long at = (row * heads + h) * k;
                norm_grad_row(back, x + at, gain, dx + at, mine, k, eps);
            }
        }
    }
}

/* out = silu(gate) * up */
void swiglu(const float *gate, const float *up, float *out, long rows, long width) {
    #pragma omp parallel if (ENOUGH(rows * width))
    {
        long first, end;
        my_share(rows, &first, &end);
        for (long i = first * width; i < end * width; i++) out[i] = gate[i] * up[i] / (1.0f + exponential(-gate[i]));
    }
}

/* d silu(z)/dz = s + z s (1 - s), s the logistic function. */
void swiglu_grad(const float *g, const float *gate, const float *up, float *dgate, float *dup, long rows, long width) {
    #pragma omp parallel if (ENOUGH(rows * width))
    {
        long first, end;
        my_share(rows, &first, &end);
        for (long i = first * width; i < end * width; i++) {
            float s = 1.0f / (1.0f + exponential(-gate[i])), silu = gate[i] * s;
            dup[i] = g[i] * silu;
            dgate[i] = g[i] * up[i] * (s + silu * (1.0f - s));
        }
    }
}

/* out = max(0, x)^2, and its gradient 2 max(0, x) g. */
void relu_squared(const float *x, float *out, long rows, long width) {
    #pragma omp parallel if (ENOUGH(rows * width))
    {
        long first, end;
        my_share(rows, &first, &end);
        for (long i = first * width; i < end * width; i++) {
            float positive = x[i] > 0.0f ? x[i] : 0.0f;
            out[i] = positive * positive;
        }
    }
}

void relu_squared_grad(const float *g, const float *x, float *dx, long rows, long width) {
    #pragma omp parallel if (ENOUGH(rows * width))
    {
        long first, end;
        my_share(rows, &first, &end);
        for (long i = first * width; i < end * width; i++) dx[i] = x[i] > 0.0f ? 2.0f * x[i] * g[i] : 0.0f;
    }
}
