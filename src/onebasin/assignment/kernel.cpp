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
// the paths of rows.h differ in speed only.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <type_traits>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "rows.h"

namespace nb = nanobind;

namespace {

using rows::DEPTH;
using rows::INF;
using rows::LANES;

template <class T>
class Solver {
public:
    Solver(int n, const std::string& path)
        : n_(n), listed_(n >= LISTED), kept_(std::max(4, std::min(KEPT, n / 8))), rows_(rows::choose<T>(path)),
          row_of_(n), pool_(n), rest_(n), wide_(n), worth_(n), distance_(n, INF), from_(n), done_(n, 0), best_(n), top_(n),
          base_(n), groups_((n / LANES / 4 + 2) * LANES), keys_(n + 1), chosen_(groups_.size() + 1), found_(n + 1) {}

    // Solve one problem. `index` comes with the matching to keep where it can be kept, `price` with the prices to start
    // from if `warm`; `bound` takes what no matching exceeds, and prices are centred, where it is wanted. Returns -1, or the
    // position of the first entry that is not finite or too large.
    int64_t run(const T* s, int64_t* index, double* price, double* bound, bool warm) {
        s_ = s, price_ = price, index_ = index;
        std::fill(row_of_.begin(), row_of_.end(), -1);
        std::fill(rest_.begin(), rest_.end(), INF);
        std::fill(wide_.begin(), wide_.end(), 0);
        int bad = look(warm);
        if (warm && bad < 0 && !related()) bad = look(warm = false);
        if (bad >= 0) return position(bad);
        if (optimal()) {
            if (bound) *bound = sum(top_.data()) + sum(price_);
            return -1;
        }
        spans_ = 0, lists_ = 0;
        spread_ = magnitude_ / 4 + std::numeric_limits<double>::min();
        begin(warm);
        bid(0, 2);
        if (listed_ && contested() > n_ / 20) auction();
        for (const int i : free_) augment(i);
        if (bound) *bound = centre();
        return -1;
    }

private:
    static constexpr int LISTED = 24;       // fewer columns are looked at all together
    static constexpr int KEPT = 12;         // the shortest list of a row, in problems that are not small
    static constexpr double LIMIT = 1e300;  // so that sums of n of them are finite

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
        const auto low = static_cast<std::conditional_t<sizeof(T) == 8, int64_t, int32_t>>(bits);
        T value;
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

    // The first column of the row whose groups are in groups_ at which it has its largest r.
    int argmost(int i) const {
        int g = 0;
        while (groups_[g] != top_[i]) ++g;
        int j = g / LANES * LANES * DEPTH;
        while (r(i, j) != top_[i]) ++j;
        return j;
    }

    // Row i takes column j.
    void give(int i, int j) {
        index_[i] = j;
        row_of_[j] = i;
        worth_[i] = row(i)[j];
    }

    // One pass over all scores: the largest r of every row and how far the given matching falls short of it. Returns the
    // first row with an entry that is not finite or too large, or -1. Without `warm`, all prices become 0 first.
    int look(bool warm) {
        if (!warm) std::fill(price_, price_ + n_, 0.0);
        gap_ = scale_ = value_ = magnitude_ = 0;
        for (int i = 0; i < n_; ++i) {
            const double here = decode(rows_.magnitude(row(i), n_));
            if (!(here <= LIMIT)) return i;
            magnitude_ = std::max(magnitude_, here);
            top_[i] = most(i);
            const int j = static_cast<int>(index_[i]);
            const double gap = top_[i] - r(i, j);
            if (gap > 0 && !warm) best_[i] = argmost(i);
            gap_ += gap;
            scale_ += std::abs(top_[i]) + std::abs(price_[i]);
            value_ += row(i)[j];
        }
        return -1;
    }

    // Whether the given matching attains the bound of the prices, up to rounding.
    bool optimal() const { return gap_ <= scale_ * std::ldexp(1.0, -50); }

    // Whether the prices can be those of a similar problem. Prices far beyond the scores would drown them in rounding.
    bool related() const {
        for (int j = 0; j < n_; ++j)
            if (!(std::abs(price_[j]) <= 16 * magnitude_)) return false;
        return gap_ <= 0.5 * std::abs(value_);
    }

    // The first matching: what was there stays where it is best; without prices, other rows take a best column if free.
    void begin(bool warm) {
        free_.clear();
        for (int i = 0; i < n_; ++i) {
            const int j = static_cast<int>(index_[i]);
            if (r(i, j) == top_[i]) give(i, j);
        }
        for (int i = 0; i < n_; ++i) {
            const int j = static_cast<int>(index_[i]);
            if (row_of_[j] == i) continue;
            if (!warm && row_of_[best_[i]] < 0) give(i, best_[i]);
            else free_.push_back(i);
        }
    }

    // A number that `kept` to `most` of the largest r of groups reach, as far as ties allow (then more reach it). Rows are
    // alike: the search begins where it ended last time, as seen from the largest.
    double threshold(int count, int kept, int most) {
        const double top = *std::max_element(groups_.begin(), groups_.begin() + count);
        double low = -INF, high = top, spread = spread_;
        for (int attempt = 0; attempt < 64; ++attempt) {
            const double here = top - spread;
            const int reached = rows_.count(groups_.data(), count, here);
            if (reached >= kept && reached <= most) {
                spread_ = spread;
                return here;
            }
            (reached < kept ? high : low) = here;
            spread = low == -INF ? 2 * spread : top - (low + (high - low) / 2);
            if (spread == INF || top - spread == low || top - spread == high) break;
        }
        return low;
    }

    // The list of a row: its largest r, at least `kept` of them if there are as many, ties from a place of its own on.
    void list(int i, int kept) {
        const bool deep = n_ >= 40 * kept;
        const int depth = deep ? DEPTH : 4;
        (deep ? rows_.maxima16 : rows_.maxima4)(row(i), price_, n_, groups_.data());
        const int count = (n_ + LANES * depth - 1) / (LANES * depth) * LANES;
        const double least = kept < count ? threshold(count, kept, kept + kept / 4) : -INF;
        int chosen = 0;
        for (int g = 0; g < count; ++g) {
            chosen_[chosen] = g;
            chosen += groups_[g] >= least;
        }
        int size = 0;
        const T* s = row(i);
        for (int c = 0; c < chosen; ++c) {
            int j = chosen_[c] / LANES * LANES * depth + chosen_[c] % LANES;
            for (int t = 0; t < depth && j < n_; ++t, j += LANES) {
                const double value = s[j] - price_[j];
                found_[size] = {value, s[j], j};
                keys_[size] = value;
                size += value >= least;
            }
        }
        rest_[i] = size == n_ ? -INF : least;
        if (size < n_) spans_ += *std::max_element(keys_.begin(), keys_.begin() + size) - least, ++lists_;
        auto& kept_ones = pool_[i];
        if (size <= 64) {
            int64_t place[64];
            rows_.ranks(keys_.data(), size, place);
            kept_ones.resize(size);
            for (int k = 0; k < size; ++k) kept_ones[place[k]] = found_[k];
            return;
        }
        const auto before = [&](const Entry& a, const Entry& b) {
            return a.r != b.r ? a.r > b.r : (a.column - i + n_) % n_ < (b.column - i + n_) % n_;
        };
        if (size > 2 * kept) {
            std::nth_element(found_.begin(), found_.begin() + 2 * kept, found_.begin() + size, before);
            rest_[i] = found_[2 * kept].r;
            size = 2 * kept;
        }
        kept_ones.assign(found_.begin(), found_.begin() + size);
        std::sort(kept_ones.begin(), kept_ones.end(), before);
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

    // The two largest r of a row; of equal best columns a free one. A new list always has the answer: two entries of it
    // are not below what it leaves out.
    Two two_best(int i) {
        if (!listed_) {
            Two two;
            for (int j = 0; j < n_; ++j) weigh(two, r(i, j), j);
            return two;
        }
        for (bool old = rest_[i] != INF;; old = false) {
            if (!old) list(i, kept_);
            Two two;
            for (const Entry& entry : pool_[i]) {
                if (entry.r < two.second) break;
                weigh(two, entry.s - price_[entry.column], entry.column);
            }
            if (two.second >= rest_[i]) return two;
        }
    }

    // Free rows bid for their best columns: a row takes the column and pays for it what makes it worth `step` less than the
    // second best. Without a step this is the augmenting row reduction of Jonker and Volgenant, with it Bertsekas' auction.
    void bid(double step, int passes) {
        int64_t bids = 10 * static_cast<int64_t>(n_);
        for (int pass = 0; pass < passes && !free_.empty() && bids > 0; ++pass) {
            left_.clear();
            for (int i : free_) {
                while (i >= 0) {
                    const Two two = two_best(i);
                    const int j = two.column, owner = row_of_[j];
                    if (bids-- <= 0 || (step == 0 && two.best == two.second && owner >= 0)) {
                        left_.push_back(i);
                        break;
                    }
                    price_[j] = std::max(price_[j], row(i)[j] - (two.second - step));
                    give(i, j);
                    i = owner;
                }
            }
            free_.swap(left_);
        }
    }

    // How many free rows prefer one column to all others. Rows that do not, such as equal ones, gain nothing by bidding.
    int contested() {
        int found = 0;
        for (const int i : free_) {
            const Two two = two_best(i);
            found += two.best > two.second;
        }
        return found;
    }

    // Where many rows are left they want the same few columns: let prices rise in steps that get finer (Bertsekas' scaling,
    // from a tenth of the mean span of a list on), and keep what is best without any.
    void auction() {
        const double span = spans_ / static_cast<double>(std::max<int64_t>(lists_, 1));
        for (const double step : {span / 10, span / 40}) {
            bid(step, std::numeric_limits<int>::max());
            release();
        }
        bid(0, 2);
    }

    // Free every row whose column is not its best.
    void release() {
        for (const int i : free_) index_[i] = -1;
        for (int i = 0; i < n_; ++i) {
            const auto j = static_cast<int>(index_[i]);
            if (j < 0 || worth_[i] - price_[j] >= two_best(i).best) continue;
            row_of_[j] = -1;
            free_.push_back(i);
        }
    }

    void reach(int i, int j, double length) {
        if (row_of_[j] < 0) {
            if (length >= limit_) return;
            limit_ = length;
            sink_ = j;
            from_[j] = i;
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
        if (rest_[i] == INF) list(i, kept_);
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
                if (wide_[i] < 2 && 16 * kept_ * (1 + 3 * wide_[i]) < n_) {
                    list(i, kept_ * (1 + 3 * wide_[i]++));
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
            const int before = static_cast<int>(index_[i]);
            give(i, j);
            j = before;
        }
    }

    // Move every price to the middle of where the matching stays optimal, so that it stays so when scores move a little:
    // with a the slack of the row and b that of the column, all steps (a - b) / 2 at once keep every slack >= 0. Returns the
    // bound, which the steps do not change: it is read from the same pass over all scores.
    double centre() {
        least_.assign(n_, INF);
        for (int i = 0; i < n_; ++i) {
            const int j = static_cast<int>(index_[i]);
            const double own = price_[j];
            price_[j] = INF;
            base_[i] = worth_[i] - own;
            top_[i] = rows_.slacks(row(i), price_, n_, base_[i], least_.data());
            price_[j] = own;
        }
        const double prices = sum(price_);
        for (int i = 0; i < n_; ++i) {
            const int j = static_cast<int>(index_[i]);
            if (n_ > 1) price_[j] += (std::max(0.0, top_[i]) - std::max(0.0, least_[j])) / 2;
            base_[i] -= std::min(0.0, top_[i]);
        }
        return sum(base_.data()) + prices;
    }

    // A sum with the rounding of every step carried along (Neumaier).
    double sum(const double* x) const {
        double total = 0, carried = 0;
        for (int k = 0; k < n_; ++k) {
            const double next = total + x[k];
            carried += std::abs(total) >= std::abs(x[k]) ? (total - next) + x[k] : (x[k] - next) + total;
            total = next;
        }
        return total + carried;
    }

    const int n_;
    const bool listed_;
    const int kept_;
    const rows::Passes<T> rows_;
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
    std::vector<int> best_;                 // a best column of a row at the first prices
    std::vector<double> top_;               // the largest r of a row at the first prices
    std::vector<double> base_, least_, groups_, keys_;
    std::vector<int> free_, left_, touched_, reached_, chosen_;
    std::vector<Entry> found_;
    std::vector<Event> heap_;
    double gap_ = 0, scale_ = 0, value_ = 0, magnitude_ = 0;  // of the given matching and the scores: see look
    double spread_ = 1;                     // from the largest r of a row down to the last of its list, as met last
    double spans_ = 0;                      // the same, summed over all lists
    int64_t lists_ = 0;
    double limit_ = INF;                    // length of the shortest path to a free column
    int sink_ = -1;                         // that column
};

// Solve k problems: `index` and `prices` are [k, n] and come as for `Solver::run`; `bound` is [k], or empty where neither
// bounds nor centred prices are wanted.
template <class T>
int64_t solve(nb::ndarray<const T, nb::ndim<3>, nb::c_contig, nb::device::cpu> similarity,
              nb::ndarray<int64_t, nb::ndim<2>, nb::c_contig, nb::device::cpu> index,
              nb::ndarray<double, nb::ndim<2>, nb::c_contig, nb::device::cpu> prices,
              nb::ndarray<double, nb::ndim<1>, nb::c_contig, nb::device::cpu> bound, bool warm, const std::string& path) {
    const auto k = static_cast<int64_t>(similarity.shape(0)), n = static_cast<int64_t>(similarity.shape(1));
    nb::gil_scoped_release release;
    Solver<T> solver(static_cast<int>(n), path);
    for (int64_t b = 0; b < k && n > 0; ++b) {
        double* wanted = bound.shape(0) ? bound.data() + b : nullptr;
        const int64_t bad =
            solver.run(similarity.data() + b * n * n, index.data() + b * n, prices.data() + b * n, wanted, warm);
        if (bad >= 0) return b * n * n + bad;
    }
    return -1;
}

template <class T>
void define(nb::module_& m) {
    const auto exact = nb::arg().noconvert();  // a copy would take the answer
    m.def("solve", &solve<T>, exact, exact, exact, exact, nb::arg(), nb::arg());
}

}  // namespace

NB_MODULE(_kernel, m) {
    define<float>(m);
    define<double>(m);
    m.def("paths", &rows::paths);
}
