"""A site made live: configuration, plug-ins, job orders. The only place that knows everyone."""
