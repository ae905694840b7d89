/* Passes over memory that torch makes one by one, made at once: forward and gradient of small steps of a block and of the loss.
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

/* 32 well-mixed bits for number i of the draw called `seed`: no state, so any thread can draw any part, and again later. */
static inline unsigned draw(unsigned i, unsigned low, unsigned high) {
    unsigned h = i * 0x9E3779B9u + low;
    h = (h ^ (h >> 16)) * 0x7FEB352Du;
    h = (h ^ (h >> 15) ^ high) * 0x846CA68Bu;
    h = (h ^ (h >> 16)) * 0x9E3779B1u;
    return h ^ (h >> 15);
}

/* out = x + y / (1-p) where the draw is not below p * 2^32, else x. x: null for zero. */
void dropout_add(const float *x, const float *y, float *out, long numbers, float p, long seed) {
    unsigned low = (unsigned)seed, high = (unsigned)((unsigned long)seed >> 32), bar = (unsigned)((double)p * 4294967296.0);
    float scale = 1.0f / (1.0f - p);
    #pragma omp parallel if (ENOUGH(numbers))
    {
        long first, end;
        my_share(numbers, &first, &end);
        if (x) for (long i = first; i < end; i++) out[i] = x[i] + (draw((unsigned)i, low, high) < bar ? 0.0f : y[i] * scale);
        else for (long i = first; i < end; i++) out[i] = draw((unsigned)i, low, high) < bar ? 0.0f : y[i] * scale;
    }
}

/* The largest of n numbers; in lanes, since compilers do not reorder comparisons into vectors by themselves. */
static float largest_of(const float *x, long n) {
    float lanes[16], largest = x[0];
    for (int j = 0; j < 16; j++) lanes[j] = x[0];
    long i = 0;
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < 16; j++) lanes[j] = x[i + j] > lanes[j] ? x[i + j] : lanes[j];
    for (; i < n; i++) largest = x[i] > largest ? x[i] : largest;
    for (int j = 0; j < 16; j++) largest = lanes[j] > largest ? lanes[j] : largest;
    return largest;
}

/* loss = sum over the rows whose target is not below 0 of -(1-s) log p(target) - s/V sum_v log p(v); normaliser: log sum exp
 * of each row. The loss of each thread goes into its own place. */
void cross_entropy(const float *logits, const long long *targets, float *normaliser, double *losses, long rows, long v, float s) {
    #pragma omp parallel if (ENOUGH(rows * v))
    {
        long first, end;
        my_share(rows, &first, &end);
        double loss = 0.0;
        for (long row = first; row < end; row++) {
            if (targets[row] < 0) continue;
            const float *l = logits + row * v;
            float largest = largest_of(l, v), sum = 0.0f, all = 0.0f;
            for (long i = 0; i < v; i++) {
                float below = l[i] - largest;
                sum += below == below ? exponential(below) : below; /* what is no number stays none */
            }
            normaliser[row] = largest + logf(sum);
            loss += normaliser[row] - (1.0f - s) * l[targets[row]];
            if (s > 0.0f) {
                for (long i = 0; i < v; i++) all += l[i];
                loss -= s * all / (double)v;
            }
        }
        losses[omp_get_thread_num()] = loss;
    }
}

/* d loss / d logit = softmax - s/V - (1-s) at the target, times g; zero in the rows that do not count. */
void cross_entropy_grad(const float *logits, const long long *targets, const float *normaliser, float *grad,
                        long rows, long v, float s, float g) {
    #pragma omp parallel if (ENOUGH(rows * v))
    {
        long first, end;
        my_share(rows, &first, &end);
        float even = s / (float)v;
        for (long row = first; row < end; row++) {
            const float *l = logits + row * v;
            float *to = grad + row * v;
            if (targets[row] < 0) {
                memset(to, 0, (size_t)v * sizeof(float));
                continue;
            }
            float n = normaliser[row];
            for (long i = 0; i < v; i++) to[i] = g * (exponential(l[i] - n) - even);
            to[targets[row]] -= g * (1.0f - s);
        }
    }
}
