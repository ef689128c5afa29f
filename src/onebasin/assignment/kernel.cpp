// The linear assignment problem, exact: a Jonker-Volgenant solver on lazily maintained candidate lists.
//
// Rows choose columns; column j costs price[j]; row i values column j at r(i, j) = s(i, j) - price[j], in double. For any
// prices, sum_i max_j r(i, j) + sum_j price[j] bounds the value of every permutation from above, and a permutation in which
// every row has a column of its largest r attains the bound.
//
// Prices only ever rise. So r only ever falls, and a list of the largest r of a row, with a bound on all that it leaves out,
// stays true for ever: a question is answered from the list unless the answer falls below the bound.
//
// Everything that decides is computed by the same double operations in the same order on every path, and ties go by index:
// the paths below differ in speed only.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

namespace nb = nanobind;

namespace {

constexpr double INF = std::numeric_limits<double>::infinity();
constexpr int LANES = 16;  // columns side by side in a loop over a row: four registers of AVX2, two of AVX-512
constexpr int DEPTH = 16;  // a group is DEPTH columns LANES apart

// ---------------------------------------------------------------------------------------------------------------------
// Passes over one row. Written once as plain loops; compiled for several instruction sets below.

#if defined(__GNUC__) || defined(__clang__)
#define INLINE inline __attribute__((always_inline))
#else
#define INLINE inline
#endif

// The largest r of every group of a row: out[c * LANES + l] is over the columns c * LANES * D + t * LANES + l, t < D.
template <int D, class T>
INLINE void group_maxima(const T* s, const double* price, int n, double* out) {
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
INLINE double slacks(const T* s, const double* price, int n, double top, double* least) {
    double own[LANES];
    std::fill(own, own + LANES, INF);
    int begin = 0;
    for (; begin + LANES <= n; begin += LANES) {
        for (int l = 0; l < LANES; ++l) {
            const double slack = top - (s[begin + l] - price[begin + l]);
            least[begin + l] = slack < least[begin + l] ? slack : least[begin + l];
            own[l] = slack < own[l] ? slack : own[l];
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
struct Rows {
    void (*maxima4)(const T*, const double*, int, double*);
    void (*maxima16)(const T*, const double*, int, double*);
    bool (*reaches)(const T*, const double*, const double*, double, double);
    double (*slacks)(const T*, const double*, int, double, double*);
    int64_t (*magnitude)(const T*, int);
};

#define COMPILED(NAME, TARGET)                                                                                             \
    template <class T>                                                                                                     \
    struct NAME {                                                                                                          \
        TARGET static void maxima4(const T* s, const double* p, int n, double* out) { group_maxima<4>(s, p, n, out); }     \
        TARGET static void maxima16(const T* s, const double* p, int n, double* out) { group_maxima<DEPTH>(s, p, n, out); } \
        TARGET static bool reaches(const T* s, const double* p, const double* d, double base, double limit) {              \
            return ::reaches(s, p, d, base, limit);                                                                        \
        }                                                                                                                  \
        TARGET static double slacks(const T* s, const double* p, int n, double top, double* least) {                       \
            return ::slacks(s, p, n, top, least);                                                                          \
        }                                                                                                                  \
        TARGET static int64_t magnitude(const T* s, int n) { return ::magnitude(s, n); }                                   \
        static Rows<T> rows() { return {maxima4, maxima16, reaches, slacks, magnitude}; }                                  \
    };

COMPILED(Plain, )
#if (defined(__x86_64__) || defined(__i386__)) && (defined(__GNUC__) || defined(__clang__))
COMPILED(Avx2, __attribute__((target("avx2"))))
COMPILED(Avx512, __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw"))))

std::vector<std::string> paths() {
    __builtin_cpu_init();
    std::vector<std::string> found{"plain"};
    if (__builtin_cpu_supports("avx2")) found.push_back("avx2");
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw"))
        found.push_back("avx512");
    return found;
}
template <class T>
Rows<T> choose(const std::string& path) {
    return path == "avx512" ? Avx512<T>::rows() : path == "avx2" ? Avx2<T>::rows() : Plain<T>::rows();
}
#else
std::vector<std::string> paths() { return {"plain"}; }
template <class T>
Rows<T> choose(const std::string&) { return Plain<T>::rows(); }
#endif

// ---------------------------------------------------------------------------------------------------------------------

template <class T>
class Solver {
public:
    Solver(int n, const std::string& path)
        : n_(n), listed_(n >= LISTED), rows_(choose<T>(path)), row_of_(n), pool_(n), rest_(n, INF), wide_(n, 0),
          worth_(n), distance_(n, INF), from_(n), done_(n, 0), base_(n), groups_((n / LANES / 4 + 2) * LANES) {}

    // Solve one problem. `index` comes with the matching to keep where it can be kept, `price` with the prices to start
    // from if `warm`; `best` takes the largest r of every row where wanted. Returns -1, or the position of the first entry
    // that is not finite or too large.
    int64_t run(const T* s, int64_t* index, double* price, double* best, bool warm, int centrings) {
        s_ = s, price_ = price, index_ = index;
        double magnitude = 0;
        for (int i = 0; i < n_; ++i) {
            const double here = decode(rows_.magnitude(row(i), n_));
            if (!(here <= LIMIT)) return position(i);
            magnitude = std::max(magnitude, here);
        }
        if (warm)  // prices far beyond the scores would drown them in rounding: they are of another problem
            for (int j = 0; j < n_; ++j) warm = warm && std::abs(price[j]) <= 16 * magnitude;
        if (!warm) std::fill(price, price + n_, 0.0);
        std::fill(row_of_.begin(), row_of_.end(), -1);
        std::fill(rest_.begin(), rest_.end(), INF);
        for (auto& list : pool_) list.clear();
        std::fill(wide_.begin(), wide_.end(), 0);
        if (!start(best, warm)) {
            reduce();
            for (const int i : free_) augment(i);
            for (int pass = 0; pass < centrings && n_ > 1; ++pass) centre();
            if (best)
                for (int i = 0; i < n_; ++i) best[i] = most(i);
        }
        return -1;
    }

private:
    static constexpr int LISTED = 192;     // fewer columns are looked at all together
    static constexpr int KEPT = 24;        // length of a list
    static constexpr double LIMIT = 1e300; // so that sums of n of them are finite

    struct Entry {
        double r;  // when it was listed: today's is no larger
        T s;
        int column;
    };
    struct Event {
        double key;
        int id;  // a column, or ~i: what the list of row i leaves out
        bool operator<(const Event& other) const { return key > other.key || (key == other.key && id > other.id); }
    };

    const T* row(int i) const { return s_ + static_cast<int64_t>(i) * n_; }
    double r(int i, int j) const { return row(i)[j] - price_[j]; }

    static double decode(int64_t bits) {
        if (sizeof(T) == 8) {
            double value;
            std::memcpy(&value, &bits, sizeof value);
            return value;
        }
        const auto low = static_cast<int32_t>(bits);
        float value;
        std::memcpy(&value, &low, sizeof value);
        return value;
    }

    int64_t position(int i) const {
        int j = 0;
        while (std::abs(static_cast<double>(row(i)[j])) <= LIMIT) ++j;
        return static_cast<int64_t>(i) * n_ + j;
    }

    // The largest r of a row, its groups left in groups_.
    double most(int i) {
        rows_.maxima16(row(i), price_, n_, groups_.data());
        const int count = (n_ + LANES * DEPTH - 1) / (LANES * DEPTH) * LANES;
        double found = -INF;
        for (int g = 0; g < count; ++g) found = std::max(found, groups_[g]);
        return found;
    }

    // Row i takes column j, which nobody has.
    void give(int i, int j) {
        index_[i] = j;
        row_of_[j] = i;
        worth_[i] = row(i)[j];
    }

    // The first matching: what was there stays where it is best. Returns whether it is optimal as it is.
    bool start(double* best, bool warm) {
        double gap = 0, scale = 0, value = 0;
        top_.resize(n_);
        for (int i = 0; i < n_; ++i) {
            top_[i] = most(i);
            const double here = r(i, static_cast<int>(index_[i]));
            gap += top_[i] - here;
            scale += std::abs(top_[i]) + std::abs(price_[i]);
            value += row(i)[index_[i]];
        }
        if (gap <= scale * std::ldexp(1.0, -50)) {
            if (best) std::copy(top_.begin(), top_.end(), best);
            return true;
        }
        if (warm && gap > 0.5 * std::abs(value)) {
            std::fill(price_, price_ + n_, 0.0);
            return start(best, false);
        }
        free_.clear();
        for (int i = 0; i < n_; ++i) {
            const int j = static_cast<int>(index_[i]);
            if (r(i, j) == top_[i]) give(i, j);
            else free_.push_back(i);
        }
        return false;
    }

    // The list of a row: its largest r, at least `kept` of them if there are as many, ties from a place of its own on.
    void list(int i, int kept) {
        const bool deep = n_ >= 32 * kept;  // then there are twice as many groups as wanted
        const int depth = deep ? DEPTH : 4;
        (deep ? rows_.maxima16 : rows_.maxima4)(row(i), price_, n_, groups_.data());
        const int count = (n_ + LANES * depth - 1) / (LANES * depth) * LANES;
        sorted_.assign(groups_.begin(), groups_.begin() + count);
        double least = -INF;
        if (kept < count) {
            std::nth_element(sorted_.begin(), sorted_.begin() + kept - 1, sorted_.end(), std::greater<double>());
            least = sorted_[kept - 1];
        }
        auto& found = pool_[i];
        found.clear();
        const T* s = row(i);
        for (int g = 0; g < count; ++g) {
            if (groups_[g] < least) continue;
            const int first = g / LANES * LANES * depth + g % LANES;
            for (int j = first, t = 0; t < depth && j < n_; ++t, j += LANES) {
                const double value = s[j] - price_[j];
                if (value >= least) found.push_back({value, s[j], j});
            }
        }
        const int offset = i;
        const auto before = [&](const Entry& a, const Entry& b) {
            if (a.r != b.r) return a.r > b.r;
            const int x = a.column - offset, y = b.column - offset;
            return (x < 0 ? x + n_ : x) < (y < 0 ? y + n_ : y);
        };
        rest_[i] = static_cast<int>(found.size()) == n_ ? -INF : least;
        if (static_cast<int>(found.size()) > 2 * kept) {
            std::nth_element(found.begin(), found.begin() + 2 * kept, found.end(), before);
            rest_[i] = found[2 * kept].r;
            found.resize(2 * kept);
        }
        std::sort(found.begin(), found.end(), before);
    }

    struct Two {
        double best = -INF, second = -INF;
        int column = -1;
    };

    void weigh(Two& two, double value, int j) const {
        if (value > two.best) {
            two.second = two.best;
            two.best = value;
            two.column = j;
        } else if (value > two.second || (value == two.best && row_of_[j] < 0)) {
            two.second = value;
            if (value == two.best && row_of_[two.column] >= 0 && row_of_[j] < 0) two.column = j;
        }
    }

    // The two largest r of a row; of equal best columns a free one.
    Two two_best(int i) {
        if (!listed_) {
            Two two;
            const T* s = row(i);
            for (int j = 0; j < n_; ++j) weigh(two, s[j] - price_[j], j);
            return two;
        }
        for (int attempt = 0;; ++attempt) {
            if (rest_[i] == INF || attempt) list(i, attempt > 1 ? n_ : KEPT);
            Two two;
            for (const Entry& entry : pool_[i]) {
                if (entry.r < two.second) break;
                weigh(two, entry.s - price_[entry.column], entry.column);
            }
            if (two.second >= rest_[i]) return two;
        }
    }

    // Augmenting row reduction: a row takes its best column and pays for it what makes the second best as good.
    void reduce() {
        if (n_ == 1) { give(0, 0); free_.clear(); return; }
        int64_t steps = 10 * static_cast<int64_t>(n_);
        for (int pass = 0; pass < 2; ++pass) {
            std::vector<int> left;
            for (int i : free_) {
                while (i >= 0) {
                    if (steps-- <= 0) { left.push_back(i); break; }
                    const Two two = two_best(i);
                    const int j = two.column, owner = row_of_[j];
                    if (two.best == two.second && owner >= 0) { left.push_back(i); break; }
                    price_[j] = std::max(price_[j], row(i)[j] - two.second);
                    give(i, j);
                    i = owner;
                }
            }
            free_.swap(left);
        }
    }

    void reach(int i, int j, double length) {
        if (row_of_[j] < 0) {
            if (length < limit_) { limit_ = length; sink_ = j; from_[j] = i; }
        } else if (length < distance_[j] && length < limit_ && !done_[j]) {
            if (distance_[j] == INF) touched_.push_back(j);
            distance_[j] = length;
            from_[j] = i;
            heap_.push_back({length, j});
            std::push_heap(heap_.begin(), heap_.end());
        }
    }

    void relax_all(int i, double base) {
        const T* s = row(i);
        int j = 0;
        for (; j + 64 <= n_; j += 64) {
            if (!rows_.reaches(s + j, price_ + j, distance_.data() + j, base, limit_)) continue;
            for (int k = j; k < j + 64; ++k) reach(i, k, base - (s[k] - price_[k]));
        }
        for (; j < n_; ++j) reach(i, j, base - (s[j] - price_[j]));
    }

    void relax_list(int i, double base) {
        for (const Entry& entry : pool_[i]) {
            if (base - entry.r >= limit_) return;
            reach(i, entry.column, base - (entry.s - price_[entry.column]));
        }
        if (base - rest_[i] < limit_) {
            base_[i] = base;
            heap_.push_back({base - rest_[i], ~i});
            std::push_heap(heap_.begin(), heap_.end());
        }
    }

    void scan(int i, double base) {
        if (!listed_) return relax_all(i, base);
        if (rest_[i] == INF) list(i, KEPT);
        relax_list(i, base);
    }

    // The shortest augmenting path from a free row, in lengths (r of the row's own column) - r >= 0: Dijkstra.
    void augment(int start) {
        limit_ = INF;
        heap_.clear();
        scan(start, 0);
        while (!heap_.empty() && heap_.front().key < limit_) {
            const Event event = heap_.front();
            std::pop_heap(heap_.begin(), heap_.end());
            heap_.pop_back();
            if (event.id < 0) {
                const int i = ~event.id;
                if (wide_[i] < 2 && 16 * KEPT * (1 + 3 * wide_[i]) < n_) {
                    list(i, KEPT * (1 + 3 * wide_[i]++));
                    relax_list(i, base_[i]);
                } else {
                    relax_all(i, base_[i]);
                }
            } else if (!done_[event.id] && event.key <= distance_[event.id]) {
                const int j = event.id, i = row_of_[j];
                done_[j] = 1;
                reached_.push_back(j);
                scan(i, event.key + (worth_[i] - price_[j]));
            }
        }
        for (const int j : reached_) {
            price_[j] += std::max(0.0, limit_ - distance_[j]);
            done_[j] = 0;
        }
        for (const int j : touched_) distance_[j] = INF;
        reached_.clear();
        touched_.clear();
        for (int j = sink_, i = -1; i != start;) {
            i = from_[j];
            const int next = static_cast<int>(index_[i]);
            give(i, j);
            j = next;
        }
    }

    // Move every price to the middle of where the matching stays optimal, so that it stays so when scores move a little.
    // With a the slack of the row and b that of the column, all steps (a - b) / 2 at once keep every slack >= 0.
    void centre() {
        least_.assign(n_, INF);
        for (int i = 0; i < n_; ++i) {
            const int j = static_cast<int>(index_[i]);
            const double own = price_[j];
            const double top = worth_[i] - own;
            price_[j] = INF;
            top_[i] = rows_.slacks(row(i), price_, n_, top, least_.data());
            price_[j] = own;
        }
        for (int i = 0; i < n_; ++i) {
            const int j = static_cast<int>(index_[i]);
            price_[j] += (std::max(0.0, top_[i]) - std::max(0.0, least_[j])) / 2;
        }
    }

    const int n_;
    const bool listed_;
    const Rows<T> rows_;
    const T* s_ = nullptr;
    double* price_ = nullptr;
    int64_t* index_ = nullptr;              // column of a row, right for rows that have one
    std::vector<int> row_of_;               // row of a column, or -1
    std::vector<std::vector<Entry>> pool_;  // the lists
    std::vector<double> rest_;              // no r outside the list of a row is larger; INF: there is no list
    std::vector<char> wide_;                // how often the list of a row grew
    std::vector<double> worth_;             // s of a row's own column
    std::vector<double> distance_;          // of columns, INF where not reached
    std::vector<int> from_;                 // the row that reached a column
    std::vector<char> done_;
    std::vector<double> base_, groups_, sorted_, top_, least_;
    std::vector<int> free_, touched_, reached_;
    std::vector<Event> heap_;
    double limit_ = INF;                    // length of the shortest path to a free column
    int sink_ = -1;                         // that column
};

template <class T>
int64_t solve(nb::ndarray<const T, nb::ndim<3>, nb::c_contig, nb::device::cpu> similarity,
              nb::ndarray<int64_t, nb::ndim<2>, nb::c_contig, nb::device::cpu> index,
              nb::ndarray<double, nb::ndim<2>, nb::c_contig, nb::device::cpu> prices,
              nb::ndarray<double, nb::ndim<2>, nb::c_contig, nb::device::cpu> best, bool warm, bool certify,
              const std::string& path) {
    const int64_t k = similarity.shape(0), n = similarity.shape(1);
    nb::gil_scoped_release release;
    Solver<T> solver(static_cast<int>(n), path);
    for (int64_t b = 0; b < k && n > 0; ++b) {
        const int64_t bad = solver.run(similarity.data() + b * n * n, index.data() + b * n, prices.data() + b * n,
                                       certify ? best.data() + b * n : nullptr, warm, certify ? 3 : 0);
        if (bad >= 0) return b * n * n + bad;
    }
    return -1;
}

}  // namespace

NB_MODULE(_kernel, m) {
    m.def("solve", &solve<float>, nb::arg().noconvert(), nb::arg().noconvert(), nb::arg().noconvert(), nb::arg().noconvert(), nb::arg(), nb::arg(), nb::arg());
    m.def("solve", &solve<double>, nb::arg().noconvert(), nb::arg().noconvert(), nb::arg().noconvert(), nb::arg().noconvert(), nb::arg(), nb::arg(), nb::arg());
    m.def("paths", &paths);
}
