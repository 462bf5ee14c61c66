"""Studies: published methods compared over seeds, trained over real masked sums, with promises and charts."""
