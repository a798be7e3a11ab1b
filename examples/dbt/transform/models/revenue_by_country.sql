select
    customers.country,
    count(*) as orders,
    sum(orders.total) as revenue
from {{ source('shop', 'orders') }} as orders
join {{ source('shop', 'customers') }} as customers on customers.id = orders.customer_id
where orders.status <> 'cancelled'
group by customers.country
