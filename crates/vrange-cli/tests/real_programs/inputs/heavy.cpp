// Headers and templates that take a compiler much memory.
#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <regex>
#include <sstream>
#include <string>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>

template <int N>
struct Level {
    std::map<std::string, std::vector<std::tuple<int, double, std::string>>> rows;
    std::unordered_map<int, std::shared_ptr<Level<N - 1>>> below;
    std::variant<int, double, std::string, std::vector<Level<N - 1>>> value;

    std::size_t sum(const std::function<std::size_t(const std::string &)> &weight) const {
        std::size_t total = std::size_t(N);
        for (const auto &[name, list] : rows) {
            total += weight(name);
            for (const auto &[whole, real, text] : list)
                total += std::size_t(whole) + std::size_t(real) + weight(text);
        }
        for (const auto &entry : below)
            total += entry.second->sum(weight);
        return total + std::visit([](const auto &) { return std::size_t(1); }, value);
    }
};

template <>
struct Level<0> {
    std::size_t sum(const std::function<std::size_t(const std::string &)> &weight) const { return weight("leaf"); }
};

template <std::size_t... Numbers>
std::vector<std::size_t> sums(std::index_sequence<Numbers...>) {
    const std::regex words("([a-z]+)[0-9]*");
    const auto weight = [&](const std::string &text) {
        std::smatch found;
        return std::regex_search(text, found, words) ? std::size_t(found.length(1)) : 0;
    };
    return {Level<int(Numbers)>().sum(weight)...};
}

int main() {
    auto all = sums(std::make_index_sequence<40>());
    std::mt19937 random(7);
    std::shuffle(all.begin(), all.end(), random);
    std::sort(all.begin(), all.end(), std::greater<>());
    std::ostringstream text;
    for (auto each : all)
        text << each << '\n';
    std::cout << text.str();
}
