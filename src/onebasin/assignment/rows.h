// Passes over one row of scores, or over numbers made from one. Written once as plain loops, which compilers turn into
// vector instructions; compiled for several instruction sets, among which the program chooses when it runs.
//
// r(j) = s[j] - price[j], in double. No result depends on the instruction set: there are differences and comparisons only,
// and where an order of columns matters it is fixed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

namespace rows {

constexpr double INF = std::numeric_limits<double>::infinity();
constexpr int LANES = 16;  // columns side by side in a loop over a row: four registers of AVX2, two of AVX-512
constexpr int DEPTH = 16;  // a group is this many columns (or 4, in short rows) LANES apart

#if defined(__GNUC__) || defined(__clang__)
#define INLINE inline __attribute__((always_inline))
#define RESTRICT __restrict__
#else
#define RESTRICT
#define INLINE inline
#endif

// The largest r of every group of a row: out[c * LANES + l] is over the columns c * LANES * D + t * LANES + l, t < D.
template <int D, class T>
INLINE void group_maxima(const T* RESTRICT s, const double* RESTRICT price, int n, double* RESTRICT out) {
    int begin = 0;
    for (; begin + LANES * D <= n; begin += LANES * D, out += LANES) {
        const T* x = s + begin;
        const double* p = price + begin;
        for (int l = 0; l < LANES; ++l) {
            double most = x[l] - p[l];
#pragma GCC unroll 16
            for (int t = 1; t < D; ++t) {
                const double r = x[t * LANES + l] - p[t * LANES + l];
                most = r > most ? r : most;
            }
            out[l] = most;
        }
    }
    if (begin == n) return;
    for (int l = 0; l < LANES; ++l) out[l] = -INF;
    for (; begin < n; begin += LANES) {
        const int width = std::min(LANES, n - begin);
        for (int l = 0; l < width; ++l) {
            const double r = s[begin + l] - price[begin + l];
            out[l] = r > out[l] ? r : out[l];
        }
    }
}

// How many of some numbers are at least `least`.
INLINE int count(const double* RESTRICT x, int n, double least) {
    int64_t found = 0;
    for (int k = 0; k < n; ++k) found += x[k] >= least;
    return static_cast<int>(found);
}

// The place of each number when they are sorted from the largest on, equal ones as they come.
INLINE void ranks(const double* RESTRICT x, int n, int64_t* RESTRICT place) {
    for (int k = 0; k < n; ++k) place[k] = 0;
    for (int64_t j = 0; j < n; ++j) {
        const double here = x[j];
        for (int64_t k = 0; k < n; ++k) place[k] += (here > x[k]) | ((here == x[k]) & (j < k));
    }
}

// Whether any of 64 columns is reached at less than its distance.
template <class T>
INLINE bool reaches(const T* s, const double* price, const double* distance, double base, double limit) {
    int hit = 0;
    for (int l = 0; l < 64; ++l) {
        const double reached = base - (s[l] - price[l]);
        hit |= (reached < distance[l]) & (reached < limit);
    }
    return hit != 0;
}

// least[j] = min(least[j], top - r(j)); returns the least top - r(j) of the row.
template <class T>
INLINE double slacks(const T* RESTRICT s, const double* RESTRICT price, int n, double top, double* RESTRICT least) {
    constexpr int D = 8;
    double own[LANES];
    std::fill(own, own + LANES, INF);
    int begin = 0;
    for (; begin + LANES * D <= n; begin += LANES * D) {
        for (int l = 0; l < LANES; ++l) {
            double most = own[l];
#pragma GCC unroll 8
            for (int t = begin + l; t < begin + l + LANES * D; t += LANES) {
                const double slack = top - (s[t] - price[t]);
                least[t] = slack < least[t] ? slack : least[t];
                most = slack < most ? slack : most;
            }
            own[l] = most;
        }
    }
    for (; begin < n; ++begin) {
        const double slack = top - (s[begin] - price[begin]);
        least[begin] = slack < least[begin] ? slack : least[begin];
        own[0] = slack < own[0] ? slack : own[0];
    }
    return *std::min_element(own, own + LANES);
}

// The largest magnitude of a row as bits, which order like the magnitudes; infinities and NaN are above all finite ones.
INLINE int64_t magnitude(const float* s, int n) {
    int32_t most = 0;
    for (int j = 0; j < n; ++j) {
        int32_t bits;
        std::memcpy(&bits, s + j, sizeof bits);
        bits &= 0x7fffffff;
        most = bits > most ? bits : most;
    }
    return most;
}
INLINE int64_t magnitude(const double* s, int n) {
    int64_t most = 0;
    for (int j = 0; j < n; ++j) {
        int64_t bits;
        std::memcpy(&bits, s + j, sizeof bits);
        bits &= 0x7fffffffffffffff;
        most = bits > most ? bits : most;
    }
    return most;
}

template <class T>
struct Passes {
    void (*maxima4)(const T*, const double*, int, double*);
    void (*maxima16)(const T*, const double*, int, double*);
    bool (*reaches)(const T*, const double*, const double*, double, double);
    double (*slacks)(const T*, const double*, int, double, double*);
    int64_t (*magnitude)(const T*, int);
    int (*count)(const double*, int, double);
    void (*ranks)(const double*, int, int64_t*);
};

#define COMPILED(NAME, TARGET)                                                                                    \
    template <class T>                                                                                            \
    struct NAME {                                                                                                 \
        TARGET static void maxima4(const T* s, const double* p, int n, double* out) {                             \
            group_maxima<4>(s, p, n, out);                                                                        \
        }                                                                                                         \
        TARGET static void maxima16(const T* s, const double* p, int n, double* out) {                            \
            group_maxima<DEPTH>(s, p, n, out);                                                                    \
        }                                                                                                         \
        TARGET static bool reaches(const T* s, const double* p, const double* d, double base, double limit) {     \
            return rows::reaches(s, p, d, base, limit);                                                           \
        }                                                                                                         \
        TARGET static double slacks(const T* s, const double* p, int n, double top, double* least) {              \
            return rows::slacks(s, p, n, top, least);                                                             \
        }                                                                                                         \
        TARGET static int64_t magnitude(const T* s, int n) { return rows::magnitude(s, n); }                      \
        TARGET static int count(const double* x, int n, double least) { return rows::count(x, n, least); }        \
        TARGET static void ranks(const double* x, int n, int64_t* place) { rows::ranks(x, n, place); }            \
        static Passes<T> passes() { return {maxima4, maxima16, reaches, slacks, magnitude, count, ranks}; }       \
    };

COMPILED(Plain, )
#if (defined(__x86_64__) || defined(__i386__)) && (defined(__GNUC__) || defined(__clang__))
COMPILED(Avx2, __attribute__((target("avx2"))))
COMPILED(Avx512, __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw"))))

inline std::vector<std::string> paths() {
    __builtin_cpu_init();
    std::vector<std::string> found{"plain"};
    if (__builtin_cpu_supports("avx2")) found.push_back("avx2");
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw"))
        found.push_back("avx512");
    return found;
}
template <class T>
Passes<T> choose(const std::string& path) {
    return path == "avx512" ? Avx512<T>::passes() : path == "avx2" ? Avx2<T>::passes() : Plain<T>::passes();
}
#else
inline std::vector<std::string> paths() { return {"plain"}; }
template <class T>
Passes<T> choose(const std::string&) { return Plain<T>::passes(); }
#endif

}  // namespace rows
